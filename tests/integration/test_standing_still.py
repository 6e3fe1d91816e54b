"""A sink that is disabled or paused stands still, loses nothing, and goes on when a person says so."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from structlog.testing import capture_logs

from creditsd.config.settings import Settings
from creditsd.daemon.app import Daemon
from creditsd.daemon.timings import Timings
from creditsd.delivery.timings import TIMINGS
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.sinks import Rejection, SinkBusy, SinkDisabled
from tests.conftest import Database, eventually
from tests.integration.line import MemorySink, installed, user
from tests.integration.running import until as running_until

ENABLE = "UPDATE creditsd.sinks SET disabled_reason = NULL, paused_at = NULL"
PAUSE = "UPDATE creditsd.sinks SET paused_at = now()"
RING = "NOTIFY creditsd, 'sinks'"

GONE = SinkDisabled("sink memory: answered 410")


class Reachable(MemorySink):
    """Can be connected to, whatever becomes of the deliveries."""

    async def open(self) -> None:
        self.opened += 1


@asynccontextmanager
async def running(settings: Settings, sink: MemorySink, timings: Timings | None = None) -> AsyncIterator[Daemon]:
    daemon = Daemon(settings, extra=[("memory", sink)], timings=timings)
    task = asyncio.create_task(daemon.run())
    try:
        yield daemon
    finally:
        daemon.stop()
        await asyncio.wait_for(task, 60)


async def told(database: Database, query: str, *more: str) -> None:
    for each in (query, *more):
        await asyncio.to_thread(database.run, each)


async def until(database: Database, column: str, holds: Any = bool) -> Any:
    """Wait until a column of the sink's row is as wanted."""

    async def read() -> Any:
        rows = await asyncio.to_thread(database.run, f"SELECT {column} FROM creditsd.sinks WHERE name = 'memory'")
        return rows[0][0] if rows else None

    return await eventually(read, holds)


async def users(database: Database, count: int) -> None:
    """Give the first users 1 credit each."""
    for number in range(1, count + 1):
        query = f"INSERT INTO user_credits (user_id, credits, status) VALUES ('{user(number)}', 1, 'active')"
        await asyncio.to_thread(database.run, query)


async def test_a_disabled_sink_stands_still_over_a_restart_and_goes_on_with_the_current_totals_once(
    reference_table18: Database,
) -> None:
    settings = await installed(reference_table18)
    await users(reference_table18, 3)
    sink = Reachable()
    sink.failure = GONE
    with capture_logs() as events:
        async with running(settings, sink):
            await until(reference_table18, "disabled_reason", lambda reason: reason == str(GONE))
    assert sink.tries == 1
    (loud,) = [each for each in events if each["log_level"] == "error"]
    assert loud["event"] == "publisher.disabled"
    assert "creditsd sinks enable memory" in loud["hint"]

    healthy = MemorySink()
    async with running(settings, healthy) as daemon:
        for amount in (2, 3, 4):
            await told(reference_table18, f"UPDATE user_credits SET credits = {amount}")
        stored = "SELECT count(*) = 3 FROM creditsd.balances WHERE credits = 4"
        await eventually(lambda: asyncio.to_thread(reference_table18.run, stored), lambda rows: rows[0][0])
        waits = "disabled: answered 410; totals wait (creditsd sinks enable memory)"
        await running_until(daemon, "sinks", {"memory": waits})
        assert healthy.tries == 0
        await told(reference_table18, ENABLE, RING)
        await healthy.until(lambda: len(healthy.newest) == 3)
    told_of = sorted((each.user_id, int(each.credits)) for each in healthy.totals)
    assert told_of == [(user(n), 4) for n in (1, 2, 3)]


async def test_a_paused_sink_is_told_nothing_until_it_is_resumed(reference_table18: Database) -> None:
    settings = await installed(reference_table18)
    await users(reference_table18, 1)
    sink = MemorySink()
    with capture_logs() as events:
        async with running(settings, sink) as daemon:
            await sink.until_credits(user(1), 1)
            await told(reference_table18, PAUSE, RING)

            async def state() -> Any:
                return daemon.health()["sinks"]

            await eventually(state, lambda sinks: sinks == {"memory": "paused (creditsd sinks resume memory)"})
            tries = sink.tries
            await told(reference_table18, "UPDATE user_credits SET credits = 2")
            stored = "SELECT FROM creditsd.balances WHERE credits = 2"
            await eventually(lambda: asyncio.to_thread(reference_table18.run, stored))
            assert sink.tries == tries
            await told(reference_table18, ENABLE, RING)
            await sink.until_credits(user(1), 2)
            assert await state() == {"memory": "current"}
    said = [each["event"] for each in events if each["event"].startswith("publisher.") and each["log_level"] == "info"]
    assert said == ["publisher.halted", "publisher.resumed"]


async def test_without_a_bell_it_looks_for_itself(reference_table18: Database) -> None:
    settings = await installed(reference_table18, wakeup="poll", poll_seconds=0.05)
    await users(reference_table18, 1)
    sink = MemorySink()
    sink.failure = GONE
    async with running(settings, sink, Timings(delivery=replace(TIMINGS, look_seconds=0.05))):
        await until(reference_table18, "disabled_reason")
        sink.failure = None
        await told(reference_table18, ENABLE)
        await sink.until_credits(user(1), 1)


async def test_without_a_bell_a_sink_that_delivers_looks_for_itself_too(reference_table18: Database) -> None:
    settings = await installed(reference_table18, wakeup="poll", poll_seconds=0.05)
    await users(reference_table18, 1)
    sink = MemorySink()
    async with running(settings, sink, Timings(delivery=replace(TIMINGS, look_seconds=0.05))) as daemon:
        await sink.until_credits(user(1), 1)
        await told(reference_table18, PAUSE)
        await running_until(daemon, "sinks", {"memory": "paused (creditsd sinks resume memory)"})
        await told(reference_table18, ENABLE)
        await running_until(daemon, "sinks", {"memory": "current"})
        await told(reference_table18, "UPDATE creditsd.sinks SET cursor = 0")
        await sink.until(lambda: len(sink.totals) == 2)


async def test_a_word_of_a_person_ends_the_longest_pause(reference_table18: Database) -> None:
    settings = await installed(reference_table18)
    await users(reference_table18, 1)
    sink = MemorySink()
    sink.failure = SinkBusy("sink memory: answered 429", 86_400.0)
    async with running(settings, sink):
        await until(reference_table18, "last_error")
        sink.failure = None
        await told(reference_table18, ENABLE, RING)
        await sink.until_credits(user(1), 1)


async def test_a_sink_that_has_failed_for_long_enough_is_disabled_if_that_is_wanted(
    reference_table18: Database,
) -> None:
    class Impatient(Reachable):
        disable_after_seconds = 0.3

    settings = await installed(reference_table18)
    await users(reference_table18, 1)
    sink = Impatient()
    sink.failure = SinkUnavailable("sink memory: no answer in time")
    async with running(settings, sink):
        reason = await until(reference_table18, "disabled_reason")
        assert re.fullmatch(r"nothing has arrived for \d s: sink memory: no answer in time", reason)
        assert sink.tries >= 2
        sink.failure = None
        await told(reference_table18, ENABLE, RING)
        await sink.until_credits(user(1), 1)


async def test_refusals_alone_count_as_failing_too_and_one_arrival_ends_that(reference_table18: Database) -> None:
    settings = await installed(reference_table18)
    await users(reference_table18, 1)
    sink = MemorySink()
    sink.refuses = {user(1)}
    async with running(settings, sink):
        await until(reference_table18, "failing_since")
        await users(reference_table18, 2)
        await sink.until_credits(user(2), 1)
        await until(reference_table18, "failing_since", lambda since: since is None)


async def test_what_a_busy_sink_has_taken_of_a_batch_is_not_sent_again(reference_table18: Database) -> None:
    class Limited(MemorySink):
        async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
            if len(totals) > 3:
                await super().deliver(totals[:3])
                raise SinkBusy("sink memory: answered 429", through=3)
            return await super().deliver(totals)

    settings = await installed(reference_table18)
    await users(reference_table18, 8)
    sink = Limited()
    async with running(settings, sink):
        await sink.until(lambda: len(sink.newest) == 8)
    assert len(sink.totals) == 8


async def test_a_cursor_set_back_by_hand_tells_everyone_again(reference_table18: Database) -> None:
    settings = await installed(reference_table18)
    await users(reference_table18, 3)
    sink = MemorySink()
    async with running(settings, sink):
        await until(reference_table18, "cursor", lambda cursor: len(sink.newest) == 3 and cursor > 0)
        before = len(sink.totals)
        await told(reference_table18, "UPDATE creditsd.sinks SET cursor = 0", RING)
        await sink.until(lambda: len(sink.totals) == before + 3)
