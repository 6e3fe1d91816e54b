"""One sink's cursor: what is handed over, what is read again, and what is left at the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import redis.asyncio as redis

from creditsd.config.settings import SinkSettings
from creditsd.sinks import Sink, SinkBusy, make
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, Line, MemorySink, user
from tests.integration.publishing import ADD, QUICK, Publishing, current, cursor, made, newest, sink_opened
from tests.servers import Valkey

# What is delivered.


async def test_a_fresh_batch_is_handed_over_and_the_table_not_asked(publishing: Publishing) -> None:
    sink = MemorySink()
    async with publishing(sink) as publisher:
        first, second = made(1), made(2)
        publisher.offer([first])
        await sink.until(lambda: len(sink.totals) == 1)
        publisher.offer([second])
        await sink.until(lambda: len(sink.totals) == 2)
        assert sink.totals[0] is first
        assert sink.totals[1] is second


async def test_batches_offered_while_one_is_under_way_follow_it_in_order(publishing: Publishing) -> None:
    sink = MemorySink()
    async with publishing(sink) as publisher:
        sink.gate.clear()
        for version in range(1, 6):
            publisher.offer([made(version)])
        await asyncio.sleep(0)
        sink.gate.set()
        await sink.until(lambda: len(sink.totals) == 5)
    assert [total.version for total in sink.totals] == [1, 2, 3, 4, 5]


async def test_a_sink_that_is_behind_is_told_the_newest_total_of_each_user_once(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    for _ in range(4):
        installation.run(ADD, [USER, 1])
        installation.run(ADD, [OTHER, 1])
        await line.settle()
    sink = MemorySink()
    async with publishing(sink, newest=await newest(line)) as publisher:
        await current(publisher)
    assert {total.user_id: total.credits for total in sink.totals} == {USER: 4, OTHER: 4}
    assert len(sink.totals) == 2
    assert [total.version for total in sink.totals] == sorted(total.version for total in sink.totals)


async def test_deliveries_are_no_larger_than_the_sink_takes(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    for number in range(7):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    sink = MemorySink(max_batch=3)
    async with publishing(sink, newest=await newest(line)) as publisher:
        await current(publisher)
        publisher.offer([made(await newest(line) + number, user(number)) for number in range(1, 6)])
        await current(publisher)
    assert [len(delivery) for delivery in sink.deliveries] == [3, 3, 1, 3, 2]


async def test_nothing_is_delivered_before_this_daemon_leads(publishing: Publishing) -> None:
    sink = MemorySink()
    async with publishing(sink, newest=None):
        pass
    assert (sink.opened, sink.tries, sink.closed) == (0, 0, 1)


# The cursor.


async def test_the_cursor_is_saved_and_a_restart_repeats_nothing(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    installation.run(ADD, [USER, 1])
    await line.settle()
    first, second = MemorySink(), MemorySink()
    async with publishing(first, newest=await newest(line)) as publisher:
        await current(publisher)
    assert cursor(installation) == (await newest(line), 1, None)
    installation.run(ADD, [OTHER, 1])
    await line.settle()
    async with publishing(second, newest=await newest(line)) as publisher:
        await current(publisher)
    assert [total.user_id for total in second.totals] == [OTHER]
    assert cursor(installation) == (await newest(line), 2, None)


async def test_a_cursor_is_saved_while_it_runs(installation: Database, publishing: Publishing) -> None:
    sink = MemorySink()
    async with publishing(sink, timings=replace(QUICK, save_seconds=0.01)) as publisher:
        publisher.offer([made(5)])

        async def saved() -> Any:
            return cursor(installation)

        await eventually(saved, lambda found: found == (5, 1, None))


async def test_a_new_sink_is_told_of_everyone_and_an_old_one_goes_on(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    for number in range(3):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    old, new = MemorySink(), MemorySink()
    async with publishing(old, newest=await newest(line)) as publisher:
        await current(publisher)
    async with publishing(new, "another", newest=await newest(line)) as publisher:
        await current(publisher)
    assert len(new.newest) == 3
    async with publishing(old, newest=await newest(line)) as publisher:
        await current(publisher)
    assert len(old.totals) == 3


async def test_leading_again_takes_up_what_another_daemon_has_saved(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    sink = MemorySink()
    async with publishing(sink) as publisher:
        await sink_opened(sink)  # and so registered
        for number in range(3):
            installation.run(ADD, [user(number), 1])
            await line.settle()
        versions = sorted(total for (total,) in installation.run("SELECT version FROM creditsd.balances"))
        installation.run("UPDATE creditsd.sinks SET cursor = %s", [versions[1]])
        publisher.lead(versions[2])
        await current(publisher)
    assert [total.version for total in sink.totals] == [versions[2]]


# The end.


async def test_ending_delivers_what_is_left(installation: Database, line: Line, publishing: Publishing) -> None:
    for number in range(9):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    sink = MemorySink(max_batch=2)
    async with publishing(sink, newest=await newest(line)):
        pass  # ended at once
    assert len(sink.newest) == 9
    assert (sink.closed, cursor(installation)[0]) == (1, await newest(line))


async def test_ending_does_not_wait_for_a_sink_that_is_down(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    installation.run(ADD, [USER, 1])
    await line.settle()
    sink = MemorySink()
    sink.failure = SinkBusy("in an hour", retry_after_seconds=3600)
    async with publishing(sink, newest=await newest(line)) as publisher:

        async def failed() -> Any:
            return publisher.error

        await eventually(failed)
    assert sink.closed == 1
    assert cursor(installation)[0] == 0


# The real thing.


async def test_valkey_is_told_fresh_and_old_alike(
    installation: Database, line: Line, publishing: Publishing, valkey: Valkey
) -> None:
    installation.run(ADD, [USER, 1])
    await line.settle()
    sink = make(SinkSettings(name="cache", url=valkey.url))
    async with redis.Redis.from_url(valkey.url) as client, publishing(sink, "cache", await newest(line)) as publisher:
        await current(publisher)
        installation.run(ADD, [OTHER, 2])
        publisher.offer(await line.settle())
        await current(publisher)
        held = [json.loads(await client.get(f"credits:{name}") or "{}") for name in (USER, OTHER)]
        assert [each["credits"] for each in held] == [1, 2]
        assert await sink.held(OTHER) == await newest(line) == publisher.cursor


def _speaks_the_protocol(sink: MemorySink) -> Sequence[Sink]:
    """The type checker's word that the sink of these tests is one."""
    return [sink]
