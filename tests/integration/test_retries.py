"""What a sink refused: waits in the database, is tried again as the newest total, and ends as a dead letter."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from operator import eq

from structlog.testing import capture_logs

from creditsd.config.settings import Settings
from creditsd.delivery.refusal_log import RefusalLog
from creditsd.delivery.timings import BOUNDS
from creditsd.domain.total import Total
from creditsd.sinks import Rejection
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, Line, MemorySink, tried, user
from tests.integration.publishing import (
    ADD,
    QUICK,
    Publishing,
    away,
    current,
    made,
    newest,
    publishers,
    sink_opened,
    waiting,
)
from tests.sinks.webhook_harness import Receiver, always


async def test_a_refused_total_waits_in_the_database_while_others_pass(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    for name in (USER, OTHER):
        installation.run(ADD, [name, 1])
        await line.settle()
    sink = MemorySink()
    sink.refuses = {USER}
    async with publishing(sink, newest=await newest(line)) as publisher:
        await current(publisher)
        assert set(sink.newest) == {OTHER}
        assert publisher.error is None
        await sink.until(lambda: sink.tries >= 3)
        ((attempt, error),) = installation.run("SELECT attempt, last_error FROM creditsd.deliveries")
        assert attempt >= 2
        assert "not today" in error
        sink.refuses = set()
        await sink.until(lambda: USER in sink.newest)
        await eventually(waiting(installation), lambda found: not found)


async def test_a_newer_total_replaces_the_refused_one(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    timings = replace(QUICK, retry_delays_seconds=(3600.0,))
    installation.run(ADD, [USER, 1])
    await line.settle()
    sink = MemorySink()
    sink.refuses = {USER}
    async with publishing(sink, newest=await newest(line), timings=timings) as publisher:
        await current(publisher)
        sink.refuses = set()
        installation.run(ADD, [USER, 1])
        publisher.offer(await line.settle())
        await sink.until_credits(USER, 2)
        await eventually(waiting(installation), lambda found: not found)


async def test_what_is_tried_again_is_the_newest_total(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    installation.run(ADD, [USER, 1])
    await line.settle()
    sink = MemorySink()
    sink.refuses = {USER}
    async with publishing(sink, newest=await newest(line)):
        await eventually(waiting(installation), lambda found: found == 1)
    installation.run(ADD, [USER, 1])
    await line.settle()
    sink.refuses, sink.deliveries = set(), []
    async with publishing(sink, newest=await newest(line)):
        await sink.until_credits(USER, 2)
    assert {total.credits for total in sink.totals} == {2}


async def test_what_was_tried_again_as_the_newest_total_is_not_followed_by_an_older_one_from_memory(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    timings = replace(QUICK, retry_delays_seconds=(3600.0,))
    sink = MemorySink()
    sink.refuses = {USER}
    async with publishing(sink, newest=await newest(line), timings=timings) as publisher:
        installation.run(ADD, [USER, 1])
        publisher.offer(await line.settle())
        await eventually(waiting(installation), lambda found: found == 1)
        sink.gate.clear()
        for name, tries in ((OTHER, sink.tries + 1), (USER, None), (USER, None)):
            installation.run(ADD, [name, 1])
            publisher.offer(await line.settle())
            if tries is not None:  # the others follow it in memory
                await eventually(partial(tried, sink), partial(eq, tries))
        sink.refuses = set()
        installation.run("UPDATE creditsd.deliveries SET next_at = clock_timestamp()")
        publisher.tell()
        sink.gate.set()
        await sink.until_credits(USER, 3)
        await current(publisher)
    assert [total.credits for total in sink.totals if total.user_id == USER] == [1, 3]


async def test_a_refusal_survives_a_restart_and_ends_as_a_dead_letter(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    timings = replace(QUICK, retry_delays_seconds=(0.01, 0.01))
    installation.run(ADD, [USER, 1])
    await line.settle()
    sink = MemorySink()
    sink.refuses = {USER}
    async with publishing(sink, newest=await newest(line), timings=timings):
        await eventually(waiting(installation), lambda found: found == 1)
    async with publishing(sink, newest=await newest(line), timings=timings):
        await eventually(waiting(installation, "next_at IS NULL"), lambda found: found == 1)
    assert installation.run("SELECT attempt FROM creditsd.deliveries") == [(3,)]
    assert sink.tries == 3


async def test_a_refusal_that_cannot_be_stored_is_not_passed_by(
    installation: Database, line: Line, settings: Settings
) -> None:
    # The receiver lives on the same PostgreSQL: it refuses, and the refusal cannot be stored either.
    for name in (USER, OTHER):
        installation.run(ADD, [name, 1])
    await line.settle()

    class Beside(MemorySink):
        async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
            if not self.tries:
                logs.clear()  # under load, a connection may not have come in time before
                ends.enter_context(away(installation))
            return await super().deliver(totals)

    sink = Beside()
    sink.refuses = {USER}
    with contextlib.ExitStack() as ends, capture_logs() as logs:
        async with (
            publishers(settings, patience_seconds=0.1) as publishing,
            publishing(sink, newest=await newest(line)) as publisher,
        ):

            async def interrupted() -> bool:
                return bool(sink.tries) and any(each["event"] == "publisher.interrupted" for each in logs)

            await eventually(interrupted)
            assert publisher.cursor == 0
            ends.close()
            await eventually(waiting(installation), lambda found: found == 1)
            sink.refuses = set()
            await sink.until(lambda: USER in sink.newest)
            await current(publisher)


async def test_a_delivery_dies_after_its_last_try_however_long_a_pause_the_receiver_asks_for(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    class Asking(MemorySink):
        async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
            return [replace(each, retry_after_seconds=0.05) for each in await super().deliver(totals)]

    installation.run(ADD, [USER, 1])
    await line.settle()
    sink = Asking()
    sink.refuses = {USER}
    timings = replace(QUICK, retry_delays_seconds=(0.01, 0.01))
    async with publishing(sink, newest=await newest(line), timings=timings):
        await eventually(waiting(installation, "next_at IS NULL"), lambda found: found == 1)
    assert sink.tries == 3


async def test_a_newer_total_of_a_user_who_was_just_refused_waits_for_the_next_try(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    timings = replace(QUICK, retry_delays_seconds=(3.0, 3600.0), retry_soon_seconds=60.0)
    sink = MemorySink()
    sink.refuses = {USER}
    async with publishing(sink, newest=await newest(line), timings=timings) as publisher:
        for _ in range(5):
            installation.run(ADD, [USER, 1])
            installation.run(ADD, [OTHER, 1])
            publisher.offer(await line.settle())
            await current(publisher)
        assert sink.newest[OTHER].credits == 5
        assert [total.credits for total in sink.totals if total.user_id == USER] == [1]
        sink.refuses = set()
        await sink.until_credits(USER, 5)
        await eventually(waiting(installation), lambda found: not found)


async def test_dead_letters_of_others_cost_a_batch_no_question(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    installation.run(
        "INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, last_error) "
        "SELECT 'memory', ('00000000-0000-0000-0001-' || lpad(n::text, 12, '0'))::uuid, 1, 10, 'answered 400' "
        "FROM generate_series(1, 20000) AS n"
    )
    sink = MemorySink()
    async with publishing(sink) as publisher:
        await sink_opened(sink)
        publisher.offer([made(1)])
        await sink.until(lambda: len(sink.totals) == 1)
        before = publisher._handover._pool.get_stats()["requests_num"]
        for version in range(2, 50):
            publisher.offer([made(version, user(version))])
            await sink.until(lambda seen=version: len(sink.totals) == seen)
        assert publisher._handover._pool.get_stats()["requests_num"] == before


async def test_where_too_many_are_refused_to_be_kept_in_mind_each_batch_is_looked_up(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    sink = MemorySink()
    sink.refuses = {USER, OTHER, user(3)}
    timings = replace(QUICK, retry_delays_seconds=(3600.0,))
    bounds = replace(BOUNDS, known_deliveries=2)
    for name in sorted(sink.refuses):
        installation.run(ADD, [name, 1])
    await line.settle()
    async with publishing(sink, newest=await newest(line), timings=timings, bounds=bounds) as publisher:
        await eventually(waiting(installation), lambda found: found == 3)
        sink.refuses = set()
        for name in (USER, OTHER, user(3)):
            installation.run(ADD, [name, 1])
        publisher.offer(await line.settle())
        await sink.until(lambda: len(sink.newest) == 3)
        await eventually(waiting(installation), lambda found: not found)


# What is logged of them.


async def test_a_refusal_is_logged_and_again_as_a_warning(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    installation.run(ADD, [USER, 1])
    await line.settle()
    sink = MemorySink()
    sink.refuses = {USER}
    timings = replace(QUICK, retry_delays_seconds=(0.01, 0.01))
    with capture_logs() as logs:
        async with publishing(sink, newest=await newest(line), timings=timings):
            await eventually(waiting(installation, "next_at IS NULL"), lambda found: found == 1)
    said = [each for each in logs if each["event"].startswith("deliveries.")]
    assert [(each["log_level"], each["event"], each.get("attempt")) for each in said] == [
        ("info", "deliveries.refused", 1),
        ("warning", "deliveries.refused_again", 2),
        ("warning", "deliveries.refused_again", 3),
        ("error", "deliveries.died", None),
    ]
    assert (said[0]["sink"], said[0]["user_id"], said[0]["reason"]) == ("memory", USER, "not today")
    assert said[0]["next_try_seconds"] is not None
    assert said[2]["next_try_seconds"] is None


async def test_many_refusals_fill_no_log(installation: Database, line: Line, publishing: Publishing) -> None:
    for number in range(60):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    sink = MemorySink(max_batch=10)
    sink.refuses = {user(number) for number in range(60) if number % 10}
    timings, bounds = replace(QUICK, retry_delays_seconds=(3600.0,)), replace(BOUNDS, refusals_logged=5)
    with capture_logs() as logs:
        async with publishing(sink, newest=await newest(line), timings=timings, bounds=bounds):
            await eventually(waiting(installation), lambda found: found == 54)
    said = [each["event"] for each in logs if each["event"].startswith("deliveries.")]
    assert said == ["deliveries.refused"] * 5 + ["deliveries.refusals_bounded"]


async def test_an_id_that_a_terminal_would_obey_is_logged_escaped() -> None:
    with capture_logs() as events:
        RefusalLog("memory", 20).refused(Rejection(Total.nothing("\x1b[2J\u202eann"), "no"), 1, 5.0)
    assert [each["user_id"] for each in events] == ["\\x1b[2J\\u202eann"]


async def test_a_webhook_is_tried_again_by_the_schedule_of_its_settings(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    installation.run(ADD, [USER, 1])
    await line.settle()
    receiver = Receiver()
    receiver.answer = always(404)
    await receiver.start()
    try:
        async with publishing(receiver.make(schedule=["2h", "3d"]), newest=await newest(line)):
            await eventually(waiting(installation), lambda found: found == 1)
        pause = "SELECT attempt, extract(epoch FROM next_at - tried_at)::float8 FROM creditsd.deliveries"
        ((attempt, seconds),) = installation.run(pause)
        assert attempt == 1
        assert 0.8 * 7200 <= seconds <= 1.2 * 7200
        async with publishing(receiver.make(schedule=["1s"]), newest=await newest(line)) as publisher:
            installation.run("UPDATE creditsd.deliveries SET next_at = now()")
            publisher.tell()
            await eventually(waiting(installation, "next_at IS NULL"), lambda found: found == 1)
        assert len(receiver.deliveries) == 2
    finally:
        await receiver.stop()
