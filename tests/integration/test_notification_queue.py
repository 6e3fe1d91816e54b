"""The queue of notifications is full, because of somebody else: no commit of the application's fails for us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
import pytest
from structlog.testing import capture_logs

from creditsd.capture import doorbell
from creditsd.config.settings import Settings
from creditsd.daemon.timings import Timings
from tests.acceptance.command import creditsd, environment
from tests.conftest import Database
from tests.integration.line import USER, MemorySink, installed
from tests.integration.play import ADD, Session
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE, Postgres

OFTEN = Timings(doorbell=doorbell.Timings(heartbeat_seconds=0.2, crowded_heartbeat_seconds=0.1))


@pytest.fixture
async def crowded(own_postgres: Callable[..., Postgres]) -> tuple[Database, Settings]:
    """A server whose queue is as small as it can be: 64 pages, which can be set from PostgreSQL 17 on."""
    server = await asyncio.to_thread(own_postgres, max_notify_queue_pages="64")
    database = Database(server, "postgres", server.dsn())
    database.run(REFERENCE_TABLE)
    return database, await installed(database)


@asynccontextmanager
async def stranger(database: Database) -> AsyncIterator[Session]:
    """Somebody who listens, to whatever, and leaves a transaction open: nothing can be freed."""
    async with database.connect() as session:
        await session.execute("LISTEN whatever")
        await session.execute("BEGIN")
        await session.execute("SELECT FROM pg_class LIMIT 1")
        yield session


def fill(database: Database, most: float) -> None:
    """Notify until the queue is so full, or refuses."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for number in range(1000):
            try:
                connection.execute("SELECT pg_notify('whatever', %s)", [f"{number} {'x' * 7000}"])
            except psycopg.errors.ProgramLimitExceeded:
                return
            usage = connection.execute("SELECT pg_notification_queue_usage()").fetchone()
            if usage is not None and usage[0] > most:
                return


async def test_above_one_half_writers_keep_silent_and_the_daemon_polls_until_it_is_freed(
    crowded: tuple[Database, Settings],
) -> None:
    # 274 of 371 commits failed, and the daemon reconnected before every drain, for ever.
    database, settings = crowded
    sink = MemorySink()
    with capture_logs() as logs:
        async with running(settings, sink, timings=OFTEN) as daemon:
            await until(daemon, "doorbell", "asleep")
            async with stranger(database) as somebody:
                await asyncio.to_thread(fill, database, 0.6)
                await until(daemon, "doorbell", "polling")
                await asyncio.to_thread(fill, database, 2.0)
                for amount in range(1, 11):
                    database.run(ADD, [USER, 1])  # not one fails
                    await sink.until_credits(USER, amount)
                await somebody.execute("COMMIT")
                await until(daemon, "doorbell", "asleep")
            database.run(ADD, [USER, 1])
            await sink.until_credits(USER, 11)
    events = [event["event"] for event in logs]
    assert events.count("doorbell.lost") == 1
    assert "pg_stat_activity" in next(event["hint"] for event in logs if event["event"] == "doorbell.lost")
    assert "daemon.interrupted" not in events


async def test_a_daemon_that_starts_where_the_queue_is_full_leads_all_the_same(
    crowded: tuple[Database, Settings],
) -> None:
    database, settings = crowded
    sink = MemorySink()
    async with stranger(database):
        await asyncio.to_thread(fill, database, 2.0)
        async with running(settings, sink, timings=OFTEN) as daemon:
            await until(daemon, "state", "leading")
            database.run(ADD, [USER, 1])
            await sink.until_credits(USER, 1)
            assert daemon.health()["doorbell"] == "polling"


async def test_what_we_ring_for_beside_the_bell_fails_nothing_either(crowded: tuple[Database, Settings]) -> None:
    database, settings = crowded
    database.run("INSERT INTO creditsd.sinks (name) VALUES ('cache')")
    async with stranger(database):
        await asyncio.to_thread(fill, database, 2.0)
        env = environment(CREDITSD_DSN=settings.dsn)
        for command in (("backfill",), ("sinks", "pause", "cache"), ("verify", "--repair")):
            done = await creditsd(*command, env=env)
            assert done.code == 0, (command, done)
        done = await creditsd("doctor", env=env)
        assert (done.code, "queue of notifications" in done.out) == (1, True)
