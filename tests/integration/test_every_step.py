"""A sink that wants every step: each one, in the order of its user, whatever is refused or breaks in between."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

import pytest
import redis.asyncio as redis
from aiohttp import web
from structlog.testing import capture_logs

from creditsd.admin.failed_deliveries import FailedDeliveries
from creditsd.delivery.publisher import Publisher
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from tests.conftest import Database, eventually
from tests.integration.leading import leading
from tests.integration.ledger import Ledger
from tests.integration.line import OTHER, USER, Line, configured, installed, user
from tests.integration.publishing import ADD, QUICK, Publishing, current, newest
from tests.servers import Valkey
from tests.sinks.webhook_harness import SECRET, Receiver

KEPT = {"history": {"days": 7}}


def failures(database: Database) -> AbstractAsyncContextManager[FailedDeliveries]:
    return FailedDeliveries.opened(configured(database, **KEPT))


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    endpoint = Receiver()
    await endpoint.start()
    yield endpoint
    await endpoint.stop()


@pytest.fixture
async def line(installation: Database) -> AsyncIterator[Line]:
    async with Line.settled(configured(installation, **KEPT)) as settled:
        yield settled


async def step(database: Database, line: Line, *users: str) -> list[Total]:
    """Give each user one credit more, and recompute."""
    for user_id in users:
        database.run(ADD, [user_id, 1])
    return await line.settle()


async def _error(publisher: Publisher) -> str | None:
    return publisher.error


def waiting(database: Database) -> list[tuple[Any, ...]]:
    return database.run("SELECT user_id::text, next_at IS NULL FROM creditsd.deliveries ORDER BY 1")


async def nothing_waits(database: Database) -> None:
    async def left() -> list[tuple[Any, ...]]:
        return waiting(database)

    await eventually(left, lambda found: not found)


def once(steps: Sequence[int]) -> list[int]:
    """Each step where it came first: what is left when a consumer drops what it knows."""
    return list(dict.fromkeys(steps))


async def test_each_step_arrives_in_order_from_the_table_and_fresh(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    for _ in range(5):
        await step(installation, line, USER, OTHER)
    sink = Ledger(max_batch=3)
    async with publishing(sink, newest=await newest(line), every=True) as publisher:
        await current(publisher)
        assert (sink.steps[USER], sink.steps[OTHER]) == ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
        assert [total.version for total in sink.totals] == sorted(total.version for total in sink.totals)
        assert [(total.previous or {}).get("credits") for total in sink.totals if total.user_id == USER][:2] == [
            None,
            1,
        ]
        publisher.offer(await step(installation, line, USER))
        publisher.offer(await step(installation, line, USER))
        await sink.until_steps(USER, 1, 2, 3, 4, 5, 6, 7)
    assert installation.run("SELECT cursor, delivered FROM creditsd.sinks") == [(await newest(line), 12)]


async def test_a_refused_step_holds_back_its_own_user_alone(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    sink = Ledger()
    sink.refuses = {USER}
    for _ in range(3):
        await step(installation, line, USER, OTHER)
    async with publishing(sink, newest=await newest(line), every=True) as publisher:
        await sink.until_steps(OTHER, 1, 2, 3)
        publisher.offer(await step(installation, line, USER, OTHER))
        publisher.offer(await step(installation, line, USER))
        await sink.until_steps(OTHER, 1, 2, 3, 4)
        await current(publisher)
        assert {int(total.credits) for total in sink.totals if total.user_id == USER} == {1}
        assert waiting(installation)[0][0] == USER
    # Over a restart, and while new ones come.
    async with publishing(sink, newest=await newest(line), every=True) as publisher:
        publisher.offer(await step(installation, line, USER, OTHER))
        await sink.until_steps(OTHER, 1, 2, 3, 4, 5)
        sink.refuses = set()
        await sink.until_steps(USER, 1, 2, 3, 4, 5, 6)
        await nothing_waits(installation)
        publisher.offer(await step(installation, line, USER))
        await sink.until_steps(USER, 1, 2, 3, 4, 5, 6, 7)
    assert sink.steps[OTHER] == [1, 2, 3, 4, 5]


async def test_steps_in_batches_arrive_in_order_and_the_one_at_fault_holds_back_its_own_user_alone(
    installation: Database, line: Line, publishing: Publishing, receiver: Receiver
) -> None:
    refused, taken = {USER}, defaultdict[str, list[int]](list)

    async def answer(request: web.Request) -> web.Response:
        there = json.loads(await request.read())["data"]["totals"]
        if any(each["user_id"] in refused for each in there):
            return web.Response(status=422)
        for each in there:
            taken[each["user_id"]].append(each["credits"])
        return web.Response(status=204)

    async def steps_of(user_id: str) -> list[int]:
        return once(taken[user_id])

    receiver.answer = answer
    others = [user(number) for number in range(2, 6)]
    for _ in range(3):
        await step(installation, line, USER, *others)
    async with publishing(receiver.make(batch=3), newest=await newest(line), every=True):
        for each in others:
            await eventually(partial(steps_of, each), lambda found: found == [1, 2, 3])
        assert waiting(installation)[0][0] == USER
        refused.clear()
        await eventually(partial(steps_of, USER), lambda found: found == [1, 2, 3])
        await nothing_waits(installation)
    assert all(
        len({total["user_id"] for total in each.data["totals"]}) == len(each.data["totals"])
        for each in receiver.deliveries
    )
    assert {each.document["type"] for each in receiver.deliveries} == {"credits.batch"}
    assert max(len(each.data["totals"]) for each in receiver.deliveries) == 3


async def test_whatever_dies_in_the_middle_no_step_is_lost_or_out_of_order(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    sink = Ledger(max_batch=2)
    for number in range(1, 13):
        await step(installation, line, USER, OTHER)
        sink.refuses = {OTHER} if number % 3 else set()
        if number % 4 == 0:
            async with publishing(sink, newest=await newest(line), every=True, killed=True):
                await sink.until(lambda seen=number: seen in sink.steps[USER])
        if number % 5 == 0:
            sink.failure = SinkUnavailable("down")
            async with publishing(sink, newest=await newest(line), every=True) as publisher:
                await eventually(partial(_error, publisher))
                sink.failure = None
                await current(publisher)
    sink.refuses = set()
    async with publishing(sink, newest=await newest(line), every=True) as publisher:
        await current(publisher)

        async def others() -> list[int]:
            return once(sink.steps[OTHER])

        await eventually(others, lambda found: len(found) == 12)
    for user_id in (USER, OTHER):
        assert once(sink.steps[user_id]) == list(range(1, 13))


async def test_a_dead_step_goes_on_holding_until_somebody_retries_or_drops_it(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    timings = replace(QUICK, retry_delays_seconds=(0.01,))
    sink = Ledger()
    sink.refuses = {USER}
    for _ in range(3):
        await step(installation, line, USER)

    async def dead() -> bool:
        return [row[1] for row in waiting(installation)] == [True]

    async with (
        publishing(sink, newest=await newest(line), every=True, timings=timings) as publisher,
        FailedDeliveries.opened(configured(installation, **KEPT)) as failed,
    ):
        await eventually(dead)
        publisher.offer(await step(installation, line, USER))
        await current(publisher)
        assert await failed.drop("memory", USER) == 1
        publisher.tell()
        await eventually(dead)
        assert {int(total.credits) for total in sink.totals} == {1, 2}
        told = (
            "SELECT d.events_after = (SELECT min(h.version) FROM creditsd.history AS h) FROM creditsd.deliveries AS d"
        )
        assert installation.run(told) == [(True,)]  # what the step that was given up brought is given up, too
        sink.refuses = set()
        assert await failed.retry("memory", USER) == 1
        publisher.tell()
        await sink.until_steps(USER, 2, 3, 4)
        await nothing_waits(installation)


async def test_a_step_dropped_before_the_cursor_came_there_is_told_once(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    timings = replace(QUICK, retry_delays_seconds=(3600.0,))
    sink = Ledger(max_batch=1)
    sink.refuses = {USER}
    await step(installation, line, USER)
    async with (
        publishing(sink, newest=await newest(line), every=True, timings=timings) as publisher,
        FailedDeliveries.opened(configured(installation, **KEPT)) as failed,
    ):
        await eventually(lambda: asyncio.to_thread(installation.run, "SELECT FROM creditsd.deliveries"))
        sink.refuses = set()
        # Stored, and not yet handed over.
        fresh = [await step(installation, line, USER), await step(installation, line, USER)]
        assert await failed.drop("memory", USER) == 1
        publisher.tell()
        for totals in fresh:
            publisher.offer(totals)
        await sink.until_steps(USER, 2, 3)
        await current(publisher)
        await nothing_waits(installation)
    assert sink.steps[USER] == [2, 3]


async def test_where_history_does_not_reach_back_it_says_so_and_goes_on(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    third = user(3)
    sink = Ledger()
    await step(installation, line, USER, OTHER, third)
    with capture_logs() as logs:
        async with publishing(sink, newest=await newest(line), every=True) as publisher:  # a new sink misses nothing
            await current(publisher)
        await step(installation, line, USER, OTHER)
        await step(installation, line, OTHER)
        lost = await newest(line)
        await step(installation, line, USER, third)
        installation.run("DELETE FROM creditsd.history WHERE version <= %s", [lost])
        installation.run("UPDATE creditsd.history_kept SET whole_after = %s", [lost])
        assert [each for each in logs if each["log_level"] == "error"] == []
        async with publishing(sink, newest=await newest(line), every=True) as publisher:
            await current(publisher)
    assert (sink.steps[USER], sink.steps[OTHER], sink.steps[third]) == ([1, 3], [1, 3], [1, 2])
    (said,) = [each for each in logs if each["log_level"] == "error"]
    assert (said["event"], said["users"], said["sink"]) == ("publisher.steps_missed", 2, "memory")
    assert "[history] days" in said["hint"]


async def test_totals_that_were_stored_while_history_was_off_are_told_as_the_newest(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    sink = Ledger()
    await step(installation, line, USER)
    async with publishing(sink, newest=await newest(line), every=True) as publisher:
        await current(publisher)
    async with Line.settled(configured(installation)) as off:
        await step(installation, off, USER)
        await step(installation, off, USER)
    # Before anything is stored with history on again, and after.
    async with publishing(sink, newest=await newest(line), every=True) as publisher:
        await current(publisher)
        assert sink.steps[USER] == [1, 3]
        await step(installation, line, OTHER)
    await step(installation, line, USER)
    async with publishing(sink, newest=await newest(line), every=True) as publisher:
        await current(publisher)
    assert (sink.steps[USER], sink.steps[OTHER]) == ([1, 3, 4], [1])


async def test_a_mode_that_changes_takes_along_what_was_refused(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    timings = replace(QUICK, retry_delays_seconds=(3600.0,))
    sink = Ledger()
    await step(installation, line, USER)
    installation.run("INSERT INTO creditsd.sinks (name, cursor) VALUES ('memory', %s)", [await newest(line)])
    installation.run(
        "INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, next_at, last_error) "
        "VALUES ('memory', %s, %s, 1, now() + interval '1 hour', 'no')",
        [USER, await newest(line)],
    )
    await step(installation, line, USER)
    async with (
        publishing(sink, newest=await newest(line), every=True, timings=timings) as publisher,
        FailedDeliveries.opened(configured(installation, **KEPT)) as failed,
    ):
        await current(publisher)
        assert sink.totals == []
        await failed.retry("memory", USER)
        publisher.tell()
        await sink.until_steps(USER, 1, 2)


# The real thing.


async def test_a_webhook_and_a_stream_get_what_history_has_over_a_restart(
    reference_table: Database, valkey: Valkey, receiver: Receiver
) -> None:
    sinks = [
        {"name": "cache", "url": valkey.url, "mode": "every", "stream": "steps"},
        {"name": "newest", "url": valkey.url, "prefix": "newest:"},
        {
            "name": "billing",
            "url": f"webhook+http://127.0.0.1:{receiver.port}/",
            "mode": "every",
            "secret": SECRET,
            "allow_cidrs": ["127.0.0.0/8"],
        },
    ]
    settings = await installed(reference_table, sinks=sinks, **KEPT)
    refused, taken = {USER}, defaultdict[str, list[int]](list)

    async def answer(request: web.Request) -> web.Response:
        user_id, version = itemgetter("user_id", "version")(json.loads(await request.read())["data"])
        if user_id in refused:
            return web.Response(status=400)
        taken[user_id].append(version)
        return web.Response(status=204)

    receiver.answer = answer
    for _ in range(2):
        async with leading(settings):
            for _ in range(4):
                await changed(reference_table, USER, OTHER)
            if refused:
                await eventually(partial(reached, reference_table))
                refused.clear()
            else:
                await nothing_waits(reference_table)
                await eventually(partial(reached, reference_table))
    async with redis.Redis(host=valkey.host, port=valkey.port) as client:
        streamed = await entries(client)
        held = json.loads(await client.get(f"newest:{USER}") or "{}")
    for user_id in (USER, OTHER):
        steps = reference_table.run(
            "SELECT version FROM creditsd.history WHERE user_id = %s ORDER BY version", [user_id]
        )
        made = [version for (version,) in steps]
        assert len(made) == 8
        assert once([each["version"] for each in streamed if each["user_id"] == user_id]) == made
        assert once(taken[user_id]) == made
    assert held["version"] == max(each["version"] for each in streamed if each["user_id"] == USER)


async def entries(client: Any) -> list[dict[str, Any]]:
    return [json.loads(fields[b"total"]) for _, fields in await client.xrange("steps")]


async def changed(database: Database, *users: str) -> None:
    """Change totals, and wait until they are stored: what comes too fast is one step."""
    (before,) = database.run("SELECT coalesce(max(version), 0) FROM creditsd.balances")
    for user_id in users:
        database.run(ADD, [user_id, 1])

    async def stored() -> int:
        ((count,),) = database.run("SELECT count(*) FROM creditsd.balances WHERE version > %s", before)
        return int(count)

    await eventually(stored, lambda count: count == len(users))


async def reached(database: Database) -> bool:
    """Whether each sink's cursor is where the newest total is."""
    ((all_,),) = database.run(
        "SELECT bool_and(s.cursor >= (SELECT max(version) FROM creditsd.balances)) FROM creditsd.sinks AS s"
    )
    return bool(all_)
