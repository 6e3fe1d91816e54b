"""A standby that was behind is promoted: what was told of the lost transactions is told anew, with higher versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from creditsd.admin.forget import Eraser
from creditsd.config.settings import Settings
from creditsd.daemon.app import Daemon
from creditsd.daemon.timings import Timings
from creditsd.domain.errors import DatabaseUnavailable
from creditsd.totals import republish
from creditsd.totals import timings as totals
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, MemorySink, configured, installed, user
from tests.integration.play import ADD
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE, Postgres

USERS = 40
EVERYONE = (
    "INSERT INTO user_credits (user_id, credits, status) "
    f"SELECT lpad(to_hex(n), 32, '0')::uuid, 1, 'active' FROM generate_series(1, {USERS}) AS n"
)
LOST = "UPDATE user_credits SET credits = 7000"


@dataclass(frozen=True, slots=True)
class Pair:
    """A primary and a standby that can be cut off; `settings` reach whichever can be written to."""

    primary: Postgres
    standby: Postgres
    settings: Settings

    @property
    def before(self) -> Database:
        """The database as it is until the failover."""
        return Database(self.primary, "postgres", self.primary.dsn())

    @property
    def after(self) -> Database:
        """The database as it is after the failover."""
        return Database(self.standby, "postgres", self.standby.dsn())

    async def fall_behind(self) -> None:
        """Let the standby have what is committed until now, and nothing more."""
        # Our own commits are not flushed, and this one is: with them.
        self.before.run("SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'tests', 'flush')")
        flushed = self.before.run("SELECT pg_current_wal_flush_lsn()::text")[0][0]

        async def replayed() -> list[Any]:
            query = "SELECT coalesce(pg_last_wal_replay_lsn(), '0/0') >= %s::pg_lsn"
            return await asyncio.to_thread(self.after.run, query, [flushed])

        await eventually(replayed, lambda rows: rows == [(True,)])
        await asyncio.to_thread(self.standby.cut_off)

    async def fail_over(self) -> None:
        """Lose the primary for ever."""
        await asyncio.to_thread(self.primary.kill9)
        await asyncio.to_thread(self.standby.promote)


@asynccontextmanager
async def replicated(own_postgres: Callable[..., Postgres], *, movable_clock: bool = False) -> AsyncIterator[Pair]:
    primary = await asyncio.to_thread(own_postgres)
    database = Database(primary, "postgres", primary.dsn())
    database.run(REFERENCE_TABLE)
    await installed(database)
    database.run(EVERYONE)
    with await asyncio.to_thread(primary.standby, movable_clock=movable_clock) as standby:
        dsn = make_conninfo(
            primary.dsn(),
            host=f"{primary.host},{standby.host}",
            port=f"{primary.port},{standby.port}",
            target_session_attrs="read-write",
        )
        yield Pair(primary, standby, configured(database).model_copy(update={"dsn": dsn}))


def all_have(sink: MemorySink, amount: int) -> Callable[[], bool]:
    return lambda: [total.credits for total in sink.newest.values()] == [amount] * USERS


async def test_a_daemon_that_died_too_tells_everyone_again(own_postgres: Callable[..., Postgres]) -> None:
    # All stayed at what was lost, the log said that all had been republished, and a backfill mended nobody.
    async with replicated(own_postgres) as pair:
        sink = MemorySink()
        async with running(pair.settings, sink):
            await sink.until(all_have(sink, 1))
        await pair.fall_behind()
        async with running(pair.settings, sink):
            pair.before.run(LOST)
            await sink.until(all_have(sink, 7000))
        await pair.fail_over()
        with capture_logs() as logs:
            async with running(pair.settings, sink):
                await sink.until(all_have(sink, 1))
        assert "balances.republishing_everyone" in [event["event"] for event in logs]


async def test_more_users_than_are_remembered_are_all_told_again(own_postgres: Callable[..., Postgres]) -> None:
    few = Timings(totals=totals.Timings(republish=republish.Timings(recent_users=10)))
    async with replicated(own_postgres) as pair:
        sink = MemorySink()
        with capture_logs() as logs:
            async with running(pair.settings, sink, timings=few) as daemon:
                await sink.until(all_have(sink, 1))
                await until(daemon, "doorbell", "asleep")
                await pair.fall_behind()
                pair.before.run(LOST)
                await sink.until(all_have(sink, 7000))
                await pair.fail_over()
                await sink.until(all_have(sink, 1))
        assert "balances.republishing_everyone" in [event["event"] for event in logs]


async def test_whom_it_remembers_it_tells_again_and_nobody_else(own_postgres: Callable[..., Postgres]) -> None:
    async with replicated(own_postgres) as pair:
        sink = MemorySink()
        with capture_logs() as logs:
            async with running(pair.settings, sink) as daemon:
                await sink.until(all_have(sink, 1))
                await until(daemon, "doorbell", "asleep")
                await pair.fall_behind()
                pair.before.run(ADD, [user(9999), 5])  # known to nobody after
                pair.before.run(f"{LOST} WHERE user_id = '{USER}'")
                await sink.until_credits(USER, 7000)
                await sink.until_credits(user(9999), 5)
                await pair.fail_over()
                await sink.until_credits(USER, 1)
                await sink.until_credits(user(9999), 0)
                await until(daemon, "state", "leading")
        events = [event["event"] for event in logs]
        assert "balances.republished" in events
        assert "balances.republishing_everyone" not in events


async def test_versions_go_on_above_the_lost_ones_though_the_new_servers_clock_is_behind(
    own_postgres: Callable[..., Postgres],
) -> None:
    async with replicated(own_postgres, movable_clock=True) as pair:
        pair.standby.set_clock(-30)
        sink = MemorySink()
        async with running(pair.settings, sink) as daemon:
            await sink.until(all_have(sink, 1))
            await until(daemon, "doorbell", "asleep")
            await pair.fall_behind()
            pair.before.run(LOST)
            await sink.until(all_have(sink, 7000))
            await pair.fail_over()
            await sink.until(all_have(sink, 1))
            pair.after.run("UPDATE user_credits SET credits = 2")
            await sink.until(all_have(sink, 2))


async def test_a_standby_daemon_hands_on_which_versions_were_given_out(own_postgres: Callable[..., Postgres]) -> None:
    async with replicated(own_postgres, movable_clock=True) as pair:
        pair.standby.set_clock(-30)
        sink = MemorySink()
        leader = Daemon(pair.settings, extra=[("memory", sink)])
        leading = asyncio.create_task(leader.run())
        await sink.until(all_have(sink, 1))
        async with running(pair.settings, sink) as standby:
            await until(standby, "state", "standby")
            await pair.fall_behind()
            pair.before.run(LOST)
            await sink.until(all_have(sink, 7000))
            highest = max(total.version for total in sink.newest.values())

            async def seen() -> int:
                return standby._pipeline.recent.highest

            await eventually(seen, lambda version: version == highest)
            leader._election._started = False  # so that it ends with its server, as if both had been on one machine
            await pair.fail_over()
            with pytest.raises(DatabaseUnavailable):
                await leading
            await sink.until(all_have(sink, 1))
            pair.after.run("UPDATE user_credits SET credits = 2")
            await sink.until(all_have(sink, 2))


async def test_who_was_forgotten_stays_forgotten_when_the_server_crashes(
    own_postgres: Callable[..., Postgres],
) -> None:
    server = await asyncio.to_thread(own_postgres)
    database = Database(server, "postgres", server.dsn())
    database.run(REFERENCE_TABLE)
    settings = await installed(database)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        for name in (USER, OTHER):
            database.run(ADD, [name, 1])
            told = await sink.until_credits(name, 1)
        await until(daemon, "doorbell", "asleep")
        database.run("DELETE FROM user_credits WHERE user_id = %s", [USER])
        await sink.until_credits(USER, 0)
        async with Eraser.opened(settings) as eraser:
            await eraser.forget(USER)
        deliveries = len(sink.totals)
        await asyncio.to_thread(server.restart, "immediate")
        await sink.until(lambda: sink.newest[OTHER].version > told.version)
        await until(daemon, "state", "leading")
        assert {total.user_id for total in sink.totals[deliveries:]} == {OTHER}
        assert database.run("SELECT FROM creditsd.balances WHERE user_id = %s", [USER]) == []
