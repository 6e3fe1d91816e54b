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
from creditsd.postgres.connections import connected
from tests.acceptance.command import creditsd, environment
from tests.conftest import Database
from tests.integration.line import OTHER, USER, MemorySink, installed
from tests.integration.play import ADD, Session
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE, Postgres

SELDOM = Timings(doorbell=doorbell.Timings(heartbeat_seconds=3600))
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
            await until(daemon, "doorbell", "polling")


WRITES = (
    f"INSERT INTO user_credits (user_id, credits, status) VALUES ('{USER}', 1, 'active')",
    "UPDATE user_credits SET credits = credits + 1",
    f"UPDATE user_credits SET user_id = '{OTHER}'",
    f"COPY user_credits (user_id, credits, status) FROM PROGRAM 'echo {USER},5,active' (FORMAT csv)",
    (
        f"MERGE INTO user_credits AS c USING (VALUES ('{USER}'::uuid)) AS v (id) ON c.user_id = v.id "
        "WHEN MATCHED THEN UPDATE SET credits = 7"
    ),
    "BEGIN; SAVEPOINT s; DELETE FROM user_credits; ROLLBACK TO s; UPDATE user_credits SET credits = 8; COMMIT",
    "BEGIN; UPDATE user_credits SET credits = 9; PREPARE TRANSACTION 'two'; COMMIT PREPARED 'two'",
    "ALTER TABLE user_credits ALTER credits TYPE bigint",
    "BEGIN; ALTER TABLE user_credits RENAME user_id TO owner_id; UPDATE user_credits SET credits = 10; COMMIT",
    "BEGIN; ALTER TABLE user_credits RENAME owner_id TO user_id; DELETE FROM user_credits; COMMIT",
    "TRUNCATE user_credits",
    f"INSERT INTO user_credits (user_id, credits, status) VALUES ('{USER}', 11, 'active')",
)


async def test_a_queue_that_fills_while_the_daemon_sleeps_fails_no_write_of_any_kind(
    crowded: tuple[Database, Settings],
) -> None:
    # Until the daemon looked again, each commit failed: "too many notifications in the NOTIFY queue".
    database, settings = crowded
    sink = MemorySink()
    async with running(settings, sink, timings=SELDOM) as daemon, database.connect() as writer:
        await until(daemon, "doorbell", "asleep")
        async with stranger(database):
            await asyncio.to_thread(fill, database, 2.0)
            for written in WRITES:
                for statement in written.split("; "):
                    await writer.execute(statement.encode())
            assert daemon.health()["doorbell"] == "asleep"
        await writer.execute("SELECT pg_notification_queue_usage()")  # frees what all have read
        await writer.execute(b"UPDATE user_credits SET credits = 12")
        await sink.until_credits(USER, 12)


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


FULL = """
CREATE OR REPLACE FUNCTION creditsd.heartbeat(proof text) RETURNS jsonb LANGUAGE plpgsql AS $function$
BEGIN
    IF proof IS NOT NULL THEN
        RAISE program_limit_exceeded USING MESSAGE = 'too many notifications in the NOTIFY queue';
    END IF;
    RETURN '{"queue_usage": 0.5}';
END
$function$
"""


async def test_a_queue_that_fills_up_while_we_ring_is_a_bell_that_is_lost(reference_table: Database) -> None:
    # It ended the daemon, as a bug would.
    settings = await installed(reference_table)
    reference_table.run(FULL)
    with capture_logs() as logs:
        async with (
            connected(settings.dsn, purpose="test") as connection,
            doorbell.Doorbell.opened(settings, told=lambda _: None) as bell,
        ):
            assert await bell.heartbeat(connection) == {"queue_usage": 1.0}
    assert [each["hint"] for each in logs if each["event"] == "doorbell.lost"] == [doorbell.QUEUE_FULL]
