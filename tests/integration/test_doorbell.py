"""The daemon sleeps when there is nothing to do, wakes at a ring, and never sleeps over anything."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from creditsd.capture import doorbell
from creditsd.config.settings import Settings
from creditsd.daemon.timings import Timings
from tests.conftest import Database, eventually
from tests.integration.hearing import FOR_EVER, NO_FALLBACK, asked, heard, hearing
from tests.integration.line import K_HELD, OTHER, USER, MemorySink, installed, user
from tests.integration.play import ADD, Session
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE, Postgres


async def test_the_daemon_sleeps_when_there_is_nothing_to_do(installation: Database, settings: Settings) -> None:
    async with running(settings, MemorySink(), timings=NO_FALLBACK) as daemon, hearing(installation) as rings:
        await until(daemon, "doorbell", "asleep")
        locks = installation.run(K_HELD)
        assert locks == [("ExclusiveLock", True)]
        installation.run(ADD, [USER, 1])
        assert await heard(installation, rings) == 1


async def test_a_ring_wakes_it(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    async with running(settings, sink, timings=NO_FALLBACK) as daemon:
        for number in range(1, 6):
            await until(daemon, "doorbell", "asleep")
            installation.run(ADD, [USER, 1])
            await sink.until_credits(USER, number)


async def test_under_load_it_stays_awake_and_writers_keep_silent(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    with capture_logs() as logs:
        async with running(settings, sink, timings=NO_FALLBACK) as daemon:
            await until(daemon, "doorbell", "asleep")
            async with installation.connect() as writer, hearing(installation) as rings:
                async with writer.transaction():
                    for number in range(300):
                        await writer.execute(ADD, [user(number), 1])
                await sink.until(lambda: len(sink.newest) == 300)

                async def woke() -> bool:
                    return any(event["event"] == "doorbell.woke" for event in logs)

                await eventually(woke)
                assert await heard(installation, rings) == 1
            await until(daemon, "doorbell", "asleep")


async def test_writers_who_queue_to_ring_wake_it_however_few_rings_the_disk_allows(
    own_postgres: Callable[..., Postgres],
) -> None:
    # A flush of 20 ms: no more than 50 commits that notify in a second, far below what wakes it by number.
    server = await asyncio.to_thread(own_postgres, fsync="on", commit_delay="20000", commit_siblings="0")
    slow = Database(server, "postgres", server.dsn())
    slow.run(REFERENCE_TABLE)
    settings = await installed(slow)
    stopped = asyncio.Event()

    async def write(number: int) -> None:
        async with slow.connect() as session:
            while not stopped.is_set():
                await session.execute(ADD, [user(number), 1])

    async with running(settings, MemorySink(), timings=NO_FALLBACK) as daemon:
        await until(daemon, "doorbell", "asleep")
        writing = [asyncio.create_task(write(number)) for number in range(8)]
        await until(daemon, "doorbell", "awake")
        stopped.set()
        await asyncio.gather(*writing)
        await until(daemon, "doorbell", "asleep")


@pytest.mark.parametrize("seed", range(2))
async def test_bursts_without_any_fallback_never_leave_it_stale(
    installation: Database, settings: Settings, seed: int
) -> None:
    dice = random.Random(seed)
    sink = MemorySink()

    async def write(session: Session, users: list[str]) -> None:
        for _ in range(dice.randrange(1, 6)):
            isolation = dice.choice(["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
            await session.execute(f"BEGIN ISOLATION LEVEL {isolation}".encode())
            for name in dice.sample(users, dice.randrange(1, 4)):
                await session.execute("SAVEPOINT here")
                await session.execute(ADD, [name, 1])
                if dice.random() < 0.2:
                    await session.execute("ROLLBACK TO here")
            if dice.random() < 0.3:  # held open for a while
                await session.execute("SELECT pg_sleep(%s)", [dice.random() * 0.03])
            await session.execute("COMMIT" if dice.random() < 0.85 else "ROLLBACK")

    async with (
        running(settings, sink, timings=NO_FALLBACK),
        contextlib.AsyncExitStack() as stack,
        installation.connect() as reader,
    ):
        sessions = [await stack.enter_async_context(installation.connect()) for _ in range(6)]
        for episode in range(20):
            users = [user(episode * 10 + number) for number in range(4)]
            writing = dice.sample(sessions, dice.randrange(1, 7))
            await asyncio.gather(*(write(session, users) for session in writing))
            rows = await reader.execute(
                "SELECT user_id::text, sum(credits) FROM user_credits WHERE user_id = ANY (%s) GROUP BY 1", [users]
            )
            for name, amount in await rows.fetchall():
                await sink.until_credits(name, amount)


async def test_while_it_asks_it_goes_on_draining(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    async with installation.connect() as silent:
        await silent.execute("BEGIN")
        await silent.execute(ADD, [OTHER, 7])
        async with running(settings, sink, timings=NO_FALLBACK) as daemon:
            await until(daemon, "doorbell", "asking")
            await eventually(lambda: asked(silent))
            for number in range(1, 4):
                installation.run(ADD, [USER, 1])
                await sink.until_credits(USER, number)
            await until(daemon, "doorbell", "asking")
            await silent.execute("COMMIT")
            await sink.until_credits(OTHER, 7)
            await until(daemon, "doorbell", "asleep")


async def test_while_it_asks_it_also_looks_by_itself(installation: Database, settings: Settings) -> None:
    timings = Timings(doorbell=doorbell.Timings(asking_poll_seconds=0.05))
    sink = MemorySink()
    async with installation.connect() as silent, installation.connect() as second:
        for session in (silent, second):  # before anybody asks: both keep silent
            await session.execute("BEGIN")
            await session.execute(ADD, [USER, 1])
        async with running(settings, sink, timings=timings) as daemon:
            await until(daemon, "doorbell", "asking")
            await second.execute("COMMIT")
            await sink.until_credits(USER, 1)
            await until(daemon, "doorbell", "asking")
        await silent.execute("ROLLBACK")


async def test_a_daemon_that_ends_leaves_nobody_ringing(installation: Database, settings: Settings) -> None:
    async with running(settings, MemorySink(), timings=NO_FALLBACK) as daemon:
        await until(daemon, "doorbell", "asleep")
    async with hearing(installation) as rings:
        installation.run(ADD, [USER, 1])
        assert await heard(installation, rings) == 0


async def test_a_request_that_is_given_up_leaves_no_lock_and_no_request(
    installation: Database, settings: Settings
) -> None:
    async def held() -> list[Any]:
        return installation.run(K_HELD)

    timings = Timings(doorbell=doorbell.Timings(asking_poll_seconds=FOR_EVER))
    sink = MemorySink()
    with capture_logs() as logs:
        async with installation.connect() as silent, installation.connect() as writer:
            await silent.execute("BEGIN")
            await silent.execute(ADD, [OTHER, 7])
            async with running(settings, sink, timings=timings) as daemon:
                await until(daemon, "doorbell", "asking")
                await eventually(lambda: asked(silent))
                async with writer.transaction():  # so many that it would rather be awake
                    for number in range(300):
                        await writer.execute(ADD, [user(number), 1])

                async def woke() -> bool:
                    return any(event["event"] == "doorbell.woke" for event in logs)

                await eventually(woke)
                await silent.execute("COMMIT")
                await sink.until_credits(OTHER, 7 + 1)
                await until(daemon, "doorbell", "asleep")
                await eventually(held, lambda found: found == [("ExclusiveLock", True)])  # it may be awake once more

            await eventually(held, lambda found: found == [])  # the server ends a session a moment after its client


SLEEP_SESSIONS = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'creditsd sleep' AND datname = current_database()"
)


async def test_a_sleep_session_that_the_server_ends_while_it_is_awake_is_made_anew(
    installation: Database, settings: Settings
) -> None:
    # It said nothing of it before, and drained without a rest for ever.
    always_awake = Timings(doorbell=doorbell.Timings(sleep_per_second=0))
    async with running(settings, MemorySink(), timings=always_awake) as daemon:
        await until(daemon, "doorbell", "awake")
        ((ended,),) = installation.run(SLEEP_SESSIONS)
        installation.run("SELECT pg_terminate_backend(%s)", [ended])

        async def sessions() -> list[Any]:
            return [pid for (pid,) in installation.run(SLEEP_SESSIONS)]

        await eventually(sessions, lambda found: found not in ([], [ended]))
        await until(daemon, "doorbell", "awake")


async def test_with_polling_there_is_no_session_to_lose(reference_table18: Database) -> None:
    settings = await installed(reference_table18, wakeup="poll")
    sink = MemorySink()
    async with running(settings, sink):
        reference_table18.run(ADD, [USER, 1])
        await sink.until_credits(USER, 1)
        assert reference_table18.run(SLEEP_SESSIONS) == []
