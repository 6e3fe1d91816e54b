"""A sink that fails does so to itself alone, is probed with one total, and says why it stands still."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from creditsd.config.settings import Settings
from creditsd.delivery.timings import BOUNDS
from creditsd.domain.errors import ConfigError, DatabaseUnavailable, SinkUnavailable
from creditsd.domain.total import Total
from creditsd.sinks import Rejection, SinkBusy, SinkRefusing
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, Line, MemorySink, user
from tests.integration.publishing import (
    ADD,
    QUICK,
    Publishing,
    Reachable,
    away,
    current,
    cursor,
    newest,
    publishers,
    sink_opened,
    waiting,
)
from tests.sinks.webhook_harness import Receiver, accept, always


async def test_a_sink_that_is_down_stands_still_and_stops_nobody(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    down, up = MemorySink(), MemorySink()
    down.failure = SinkUnavailable("sink down: it is down")
    async with publishing(down, "down") as first, publishing(up, "up") as second:
        for number in range(1, 5):
            installation.run(ADD, [USER, 1])
            totals = await line.settle()
            first.offer(totals)
            second.offer(totals)
            await up.until_credits(USER, number)

        async def error() -> str | None:
            return first.error

        await eventually(error, lambda said: said == "sink down: it is down")
        assert first.behind
        assert second.error is None
        down.failure = None
        await current(first)
        assert [total.credits for total in down.totals] == [4]
        assert first.error is None


async def test_a_delivery_that_fails_is_repeated_from_the_table(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    sink = MemorySink()
    async with publishing(sink) as publisher:
        await sink_opened(sink)
        sink.failure = SinkUnavailable("in between")
        installation.run(ADD, [USER, 1])
        publisher.offer(await line.settle())
        await sink.until(lambda: sink.tries >= 1)
        installation.run(ADD, [USER, 1])
        publisher.offer(await line.settle())
        sink.failure = None
        await current(publisher)
    assert [total.credits for total in sink.totals] == [2]


async def test_why_a_sink_stands_still_is_told_in_the_database_and_forgotten_when_it_recovers(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    sink = MemorySink()
    async with publishing(sink) as publisher:
        await sink_opened(sink)
        sink.failure = SinkUnavailable("it is on fire")
        installation.run(ADD, [USER, 1])
        publisher.offer(await line.settle())

        async def error() -> Any:
            return (cursor(installation) or (0, 0, None))[2]

        await eventually(error, lambda found: found == "it is on fire")
        sink.failure = None
        await current(publisher)
    assert cursor(installation) == (await newest(line), 1, None)


async def test_a_busy_sink_is_left_alone_as_long_as_it_asks(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    sink = MemorySink()
    async with publishing(sink) as publisher:
        await sink_opened(sink)
        sink.failure = SinkBusy("later", retry_after_seconds=0.5)
        installation.run(ADD, [USER, 1])
        publisher.offer(await line.settle())
        await sink.until(lambda: sink.tries == 1)
        began = asyncio.get_running_loop().time()
        await sink.until(lambda: sink.tries == 2)
        assert asyncio.get_running_loop().time() - began >= 0.45
        sink.failure = None


async def test_a_sink_that_refuses_everyone_is_ill_and_keeps_no_list(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    for number in range(6):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    sink = MemorySink()
    sink.refuses = {user(number) for number in range(6)}
    bounds = replace(BOUNDS, refused_together=3)
    async with publishing(sink, newest=await newest(line), bounds=bounds) as publisher:
        await sink.until(lambda: sink.tries >= 2)
        assert installation.run("SELECT count(*) FROM creditsd.deliveries") == [(0,)]
        assert "refuses every delivery" in str(publisher.error)
        sink.refuses = set()
        await current(publisher)
    assert len(sink.newest) == 6


async def test_a_sink_that_failed_is_probed_with_one_total_each_time_another_users(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    for number in range(5):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    asked: list[list[str]] = []

    class Ill(MemorySink):
        async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
            asked.append([total.user_id for total in totals])
            return await super().deliver(totals)

    sink = Ill()
    sink.failure = SinkUnavailable("no answer in time")
    with capture_logs() as logs:
        async with publishing(Reachable(sink), newest=await newest(line)) as publisher:
            await sink.until(lambda: sink.tries >= 8)
            assert [each for each in logs if each["event"] == "publisher.recovered"] == []
            sink.failure = None
            await current(publisher)
    before, after = asked[1:8], asked[8:]
    assert len(asked[0]) == 5
    assert [len(each) for each in before] == [1] * 7
    assert len({name for each in before for name in each}) == 5
    assert sorted(name for each in after for name in each)[-5:] == sorted(set(asked[0]))
    assert len(sink.totals) == 5  # whoever arrived as the probe is not told twice
    assert [each["event"] for each in logs if each["event"] == "publisher.recovered"] == ["publisher.recovered"]


async def test_a_sink_that_broke_in_the_middle_of_a_page_is_probed_with_one_total_and_then_told_the_rest(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    for number in range(10):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    asked: list[list[str]] = []

    class Breaking(MemorySink):
        broken = True

        async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
            asked.append([total.user_id for total in totals])
            if len(totals) == 1 or not self.broken:
                return await super().deliver(totals)
            self.broken, self.refuses = False, {total.user_id for total in totals}
            await super().deliver(totals[:2])
            for total in totals[:2]:
                self.newest[total.user_id] = total
            refused = [Rejection(total, "answered 500") for total in totals[2:5]]
            raise SinkRefusing("sink memory: refuses everyone by now", through=5, refused=refused)

    sink = Breaking()
    async with publishing(Reachable(sink), newest=await newest(line)) as publisher:
        await sink.until(lambda: len(asked) >= 4)
        assert [len(each) for each in asked[1:4]] == [1, 1, 1]
        assert "refuses every" in str(publisher.error)
        sink.refuses = set()
        await current(publisher)
        await eventually(waiting(installation), lambda left: left == 0)
    assert sorted(sink.newest) == [user(number) for number in range(10)]
    assert publisher.error is None


async def test_whoever_met_a_receiver_that_is_ill_has_no_part_in_it_and_is_told_when_it_is_well(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    for number in range(10):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    receiver = Receiver()
    await receiver.start()
    receiver.answer = always(521, "origin is down")
    try:
        async with publishing(receiver.make(), newest=await newest(line)) as publisher:
            await receiver.asked(15)
            assert "answered 521: origin is down" in str(publisher.error)
            assert await waiting(installation)() == 0
            assert installation.run("SELECT cursor FROM creditsd.sinks") == [(0,)]
            receiver.answer = accept
            await current(publisher)
            assert publisher.error is None
            assert {each.data["user_id"] for each in receiver.deliveries[15:]} >= {user(number) for number in range(10)}
            assert await waiting(installation)() == 0
    finally:
        await receiver.stop()


async def test_those_who_break_a_receiver_again_at_their_next_try_do_not_make_it_ill(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    ill = {user(number) for number in range(6)}
    receiver = Receiver()
    await receiver.start()

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=500 if json.loads(await request.read())["data"]["user_id"] in ill else 200)

    receiver.answer = answer
    try:
        with capture_logs() as logs:
            async with publishing(receiver.make(concurrency=1)) as publisher:
                for number in range(6):
                    installation.run(ADD, [user(number), 1])
                    installation.run(ADD, [user(100 + number), 1])
                    publisher.offer(await line.settle())
                await current(publisher)

                async def tried() -> int:
                    query = "SELECT CASE WHEN count(*) = 6 THEN min(attempt) ELSE 0 END FROM creditsd.deliveries"
                    return int(installation.run(query)[0][0])

                await eventually(tried, lambda least: least >= 3)
        assert "publisher.backed_off" not in [each["event"] for each in logs]
    finally:
        await receiver.stop()


async def test_few_who_are_refused_do_not_keep_a_sink_ill_that_was_away(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    for number in range(3):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    sink = MemorySink()
    sink.refuses = {user(number) for number in range(3)}
    sink.failure = SinkUnavailable("away")
    timings = replace(QUICK, retry_delays_seconds=(3600.0,))
    async with publishing(Reachable(sink), newest=await newest(line), timings=timings) as publisher:
        await sink.until(lambda: sink.tries >= 2)
        sink.failure = None
        await current(publisher)
        assert await waiting(installation)() == 3
        assert sink.newest == {}
        # It is not said to have recovered before something has arrived.
        assert publisher.error is not None
        installation.run(ADD, [user(4), 1])
        publisher.offer(await line.settle())
        await sink.until(lambda: user(4) in sink.newest)
        await current(publisher)
        assert publisher.error is None


async def test_a_sink_that_could_not_be_opened_and_has_nothing_to_tell_is_well_once_it_can(
    publishing: Publishing,
) -> None:
    sink = MemorySink()
    sink.failure = SinkUnavailable("sink memory: it is down")
    async with publishing(sink) as publisher:

        async def error() -> str | None:
            return publisher.error

        await eventually(error)
        sink.failure = None
        await eventually(error, lambda found: found is None)
    assert sink.tries == 0


# PostgreSQL is away: that is not the sink's failure.


@pytest.mark.parametrize("refuses", [False, True], ids=["idle", "with a delivery that failed before"])
async def test_that_postgresql_is_away_is_never_stored_as_the_sinks_failure_and_disables_nothing(
    installation: Database, line: Line, settings: Settings, refuses: bool
) -> None:
    class Impatient(MemorySink):
        disable_after_seconds = 1.0

    sink = Impatient()
    async with publishers(settings, patience_seconds=0.1) as publishing, publishing(sink) as publisher:
        await sink_opened(sink)
        if refuses:
            sink.refuses = {USER}
            installation.run(ADD, [USER, 1])
            publisher.offer(await line.settle())
            await eventually(waiting(installation))
            sink.refuses = set()
        with away(installation), capture_logs() as logs:
            publisher.tell()

            async def said() -> int:
                return sum(each["event"] == "publisher.interrupted" for each in logs)

            await eventually(said, lambda times: times >= 3)
            await asyncio.sleep(1.1)  # longer than a sink may fail
            assert publisher.error is None
        publisher.tell()
        installation.run(ADD, [OTHER, 1])
        publisher.offer(await line.settle())
        await sink.until(lambda: OTHER in sink.newest)
        await current(publisher)
    state = "SELECT last_error, last_error_at, failing_since, disabled_reason FROM creditsd.sinks"
    assert installation.run(state) == [(None, None, None, None)]


async def test_time_without_a_daemon_is_not_time_in_which_the_sink_failed(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    class Impatient(MemorySink):
        disable_after_seconds = 60.0

    sink = Impatient()
    sink.failure = SinkUnavailable("away")
    installation.run(ADD, [USER, 1])
    await line.settle()
    for _ in range(2):
        async with publishing(Reachable(sink), newest=await newest(line)):
            await sink.until(lambda seen=sink.tries: sink.tries >= seen + 2)
        installation.run(
            "UPDATE creditsd.sinks SET failing_since = failing_since - interval '1 day', "
            "saved_at = saved_at - interval '1 day'"
        )
    assert installation.run("SELECT disabled_reason FROM creditsd.sinks") == [(None,)]


# What nobody expected.


async def test_an_unexpected_exception_stops_that_sink_alone_and_is_said_once_with_its_traceback(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    broken, well = MemorySink(), MemorySink()
    broken.failure = RuntimeError("unable to perform operation on <TCPTransport closed=True>")
    with capture_logs() as logs:
        async with publishing(Reachable(broken), "broken") as first, publishing(well, "well") as second:
            for number in range(1, 4):
                installation.run(ADD, [USER, 1])
                totals = await line.settle()
                first.offer(totals)
                second.offer(totals)
                await well.until_credits(USER, number)
            await broken.until(lambda: broken.tries >= 4)
            assert "failed unexpectedly: RuntimeError: unable to perform" in str(first.error)
            assert second.error is None
            broken.failure = None
            await broken.until_credits(USER, 3)
            await current(first)
            assert first.error is None
    (said,) = [each for each in logs if each["event"] == "publisher.broken"]
    assert (said["sink"], said["log_level"], said["exc_info"]) == ("broken", "error", True)
    assert broken.closed >= 3  # let go of before it is opened anew


@pytest.mark.parametrize("failure", [RuntimeError("closed"), ConfigError("no such file"), DatabaseUnavailable("away")])
async def test_whatever_a_sink_raises_when_opened_or_closed_is_its_own_failure(
    publishing: Publishing, failure: Exception
) -> None:
    class Broken(MemorySink):
        async def close(self) -> None:
            await super().close()
            raise failure

    sink = Broken()
    sink.failure = failure
    async with publishing(sink) as publisher:

        async def error() -> str | None:
            return publisher.error

        found = await eventually(error)
        assert str(found).startswith(f"sink memory: failed unexpectedly: {type(failure).__name__}: ")
    assert sink.closed >= 1
