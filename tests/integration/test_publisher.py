"""One sink's cursor: what is handed over, what is read again, and what a sink that fails does to itself alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import redis.asyncio as redis

from creditsd.config.settings import Settings, SinkSettings
from creditsd.delivery import backlog
from creditsd.delivery import publisher as publisher_module
from creditsd.delivery import retries as retries_module
from creditsd.delivery.publisher import Publisher
from creditsd.domain import backoff as backoff_module
from creditsd.domain.backoff import Backoff
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.postgres.connections import batch, pool
from creditsd.sinks import Sink, SinkBusy, make
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, Line, MemorySink, user
from tests.servers import Valkey

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"

Publishing = Callable[..., AbstractAsyncContextManager[Publisher]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff_module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(backoff_module, "LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(retries_module, "DELAYS_SECONDS", (0.02,) * 50)


@pytest.fixture
async def publishing(settings: Settings) -> AsyncIterator[Publishing]:
    """Run publishers on one pool, each as a task until the end of its block, which it ends and closes in order."""
    async with pool(settings.dsn, purpose="publisher", max_size=4) as connections:

        @asynccontextmanager
        async def run(sink: Sink, name: str = "memory", newest: int | None = 0) -> AsyncIterator[Publisher]:
            publisher = Publisher(name, sink, connections)
            if newest is not None:
                publisher.lead(newest, "uuid")
            task = asyncio.create_task(publisher.run())
            try:
                yield publisher
            finally:
                await publisher.end()
                async with asyncio.timeout(10):
                    await task
                await publisher.close()

        yield run


@pytest.fixture
async def line(settings: Settings) -> AsyncIterator[Line]:
    async with Line.settled(settings) as settled:
        yield settled


def made(version: int, name: str = USER) -> Total:
    """A total that stands in no table."""
    return Total.nothing(name)._replace(version=version, updated_at=datetime.now(UTC), credits=Decimal(version))


async def newest(line: Line) -> int:
    """The newest version there is."""
    ((version,),) = await (await line.connection.execute("SELECT max(version) FROM creditsd.balances")).fetchall()
    return int(version or 0)


def cursor(database: Database, name: str = "memory") -> Any:
    """What is saved of a sink: cursor, delivered, last error."""
    rows = database.run("SELECT cursor, delivered, last_error FROM creditsd.sinks WHERE name = %s", [name])
    return rows[0] if rows else None


def waiting(database: Database, which: str = "true") -> Callable[[], Awaitable[int]]:
    """Read how many deliveries wait, or are dead."""

    async def count() -> int:
        ((found,),) = database.run(f"SELECT count(*) FROM creditsd.deliveries WHERE {which}")
        return int(found)

    return count


async def current(publisher: Publisher) -> None:
    """Wait until everything has arrived."""

    async def behind() -> bool:
        return publisher.behind

    await eventually(behind, lambda found: not found)


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


async def test_a_cursor_is_saved_while_it_runs(
    installation: Database, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "SAVE_SECONDS", 0.01)
    sink = MemorySink()
    async with publishing(sink) as publisher:
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
        publisher.lead(versions[2], "uuid")
        await current(publisher)
    assert [total.version for total in sink.totals] == [versions[2]]


async def test_what_is_stored_while_a_page_is_read_is_not_skipped(
    installation: Database, line: Line, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The head belongs to a total that is gone, so the page is empty; before that is known, something new is stored.
    read, go = asyncio.Event(), asyncio.Event()
    really = batch

    async def slowly(*arguments: Any) -> Any:
        found = await really(*arguments)
        read.set()
        await go.wait()
        return found

    monkeypatch.setattr(backlog, "batch", slowly)
    sink = MemorySink()
    async with publishing(sink, newest=10) as publisher:
        await read.wait()
        installation.run(ADD, [USER, 1])
        publisher.offer(await line.settle())
        go.set()
        await current(publisher)
    assert sink.newest[USER].credits == 1


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """After which version each page of the table was read."""
    found: list[int] = []
    really = batch

    async def noted(connection: Any, query: str, asked: Any) -> Any:
        found.append(asked["version"])
        return await really(connection, query, asked)

    monkeypatch.setattr(backlog, "batch", noted)
    return found


async def pages_read(reads: list[int], number: int) -> None:
    """Wait until so many have been asked for."""

    async def count() -> int:
        return len(reads)

    await eventually(count, lambda found: found == number)


async def test_the_next_page_is_read_while_one_is_delivered_and_forgotten_where_that_fails(
    installation: Database, line: Line, publishing: Publishing, reads: list[int]
) -> None:
    for number in range(5):
        installation.run(ADD, [user(number), 1])
        await line.settle()
    sink = MemorySink(max_batch=2)

    async def why() -> str | None:
        return publisher.error

    sink.gate.clear()
    async with publishing(sink, newest=await newest(line)) as publisher:
        await pages_read(reads, 2)
        assert sink.deliveries == []
        installation.run(ADD, [user(2), 1])  # who stands on the page that was read ahead
        publisher.offer(await line.settle())
        sink.failure = SinkUnavailable("sink memory: it is away")
        sink.gate.set()
        await eventually(why, lambda found: found is not None)
        sink.failure = None
        await current(publisher)
    assert [total.credits for total in sink.totals if total.user_id == user(2)] == [Decimal(2)]
    assert [len(delivery) for delivery in sink.deliveries] == [2, 2, 1]


async def test_what_is_handed_over_after_a_full_page_has_no_next_one(
    installation: Database, line: Line, publishing: Publishing, reads: list[int]
) -> None:
    for number in range(2):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    sink = MemorySink(max_batch=2)

    async with publishing(sink, newest=await newest(line)) as publisher:
        await current(publisher)
        await pages_read(reads, 2)  # the page, and that there is no other
        publisher.offer([made(publisher.cursor + 1)])
        await sink.until(lambda: len(sink.deliveries) == 2)
        publisher.offer([made(publisher.cursor + 2)])
        await current(publisher)
    assert [len(delivery) for delivery in sink.deliveries] == [2, 1, 1]
    assert len(reads) == 2


# A sink that fails.


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
        assert first.behind
        assert first.error == "sink down: it is down"
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
    installation: Database, line: Line, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries_module, "DELAYS_SECONDS", (3600.0,))
    installation.run(ADD, [USER, 1])
    await line.settle()
    sink = MemorySink()
    sink.refuses = {USER}
    async with publishing(sink, newest=await newest(line)) as publisher:
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


async def test_a_refusal_survives_a_restart_and_ends_as_a_dead_letter(
    installation: Database, line: Line, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries_module, "DELAYS_SECONDS", (0.01, 0.01))
    installation.run(ADD, [USER, 1])
    await line.settle()
    sink = MemorySink()
    sink.refuses = {USER}
    async with publishing(sink, newest=await newest(line)):
        await eventually(waiting(installation), lambda found: found == 1)
    async with publishing(sink, newest=await newest(line)):
        await eventually(waiting(installation, "next_at IS NULL"), lambda found: found == 1)
    assert installation.run("SELECT attempt FROM creditsd.deliveries") == [(3,)]
    assert sink.tries == 3


async def test_a_sink_that_refuses_everyone_is_ill_and_keeps_no_list(
    installation: Database, line: Line, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "REFUSED_TOGETHER", 3)
    for number in range(6):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    sink = MemorySink()
    sink.refuses = {user(number) for number in range(6)}
    async with publishing(sink, newest=await newest(line)) as publisher:
        await sink.until(lambda: sink.tries >= 2)
        assert installation.run("SELECT count(*) FROM creditsd.deliveries") == [(0,)]
        assert "refuses every delivery" in str(publisher.error)
        sink.refuses = set()
        await current(publisher)
    assert len(sink.newest) == 6


async def test_nothing_grows_behind_a_sink_that_does_not_answer(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "FRESH_TOTALS", 10)
    sink = MemorySink()
    sink.gate.clear()
    async with publishing(sink) as publisher:
        publisher.offer([made(1)])
        for version in range(2, 200):
            publisher.offer([made(version, user(version))])
            assert sum(len(batch) for batch in publisher._fresh) <= 10
        sink.gate.set()
        await current(publisher)


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


def test_pauses_grow_up_to_a_bound_and_never_all_alike() -> None:
    backoff = Backoff()
    pauses = [backoff.next() for _ in range(50)]
    assert 0.005 <= pauses[0] <= 0.01
    assert all(0.025 <= pause <= 0.05 for pause in pauses[10:])
    assert len(set(pauses)) > 40
    assert backoff.next(at_least=7) == 7


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
        assert await sink.held(OTHER) == await newest(line) == cursor_of(publisher)


def cursor_of(publisher: Publisher) -> int:
    return publisher._cursor


def made_like(sink: MemorySink, name: str, version: int) -> Total:
    """The total of that version, as it was handed over."""
    return next(total for total in sink.totals if (total.user_id, total.version) == (name, version))


async def sink_opened(sink: MemorySink) -> None:
    async def opened() -> int:
        return sink.opened

    await eventually(opened)


def _speaks_the_protocol(sink: MemorySink) -> Sequence[Sink]:
    """The type checker's word that the sink of these tests is one."""
    return [sink]
