"""Writers ring while the daemon sleeps and only then; the daemon never sleeps over anything."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from creditsd.capture import doorbell as doorbell_module
from creditsd.capture.doorbell import Doorbell
from creditsd.config.settings import Settings
from creditsd.daemon import pipeline as leadership_module
from creditsd.postgres.connections import connected
from tests.conftest import Database, eventually
from tests.integration.line import ADVISORY, K_HELD, OTHER, USER, Line, MemorySink, installed, user
from tests.integration.running import running, until
from tests.proxy import Proxy
from tests.servers import REFERENCE_TABLE, Postgres

Session = AsyncConnection[tuple[Any, ...]]

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"
K = "'creditsd.changes'::regclass::oid::int4, 1"
FOR_EVER = 1000.0


@asynccontextmanager
async def hearing(database: Database) -> AsyncIterator[list[str]]:
    """Collect every ring, whoever it is from; our own proofs are not counted."""
    rings: list[str] = []
    async with database.connect() as listener:
        await listener.execute("LISTEN creditsd")

        async def listen() -> None:
            nonlocal rings
            async for heard in listener.notifies():
                rings += [heard.payload] if not heard.payload.startswith("proof") else []

        listening = asyncio.create_task(listen())
        try:
            yield rings
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening


async def heard(database: Database, rings: list[str]) -> int:
    """Count the rings so far: notifications arrive in the order of commits, so a last one of ours comes after them."""
    database.run("SELECT pg_notify('creditsd', 'last')")

    async def last() -> bool:
        return rings[-1:] == ["last"]

    await eventually(last)
    rings.pop()
    return len(rings)


async def asked(session: Session) -> bool:
    """Whether somebody's request for K waits at the server: from then on every new writer rings."""
    waiting = await session.execute(f"SELECT {ADVISORY} AND NOT granted".encode())
    return bool(await waiting.fetchall())


@pytest.fixture
def no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away whatever would look by itself after a while."""
    monkeypatch.setattr(doorbell_module, "ASKING_POLL_SECONDS", FOR_EVER)
    monkeypatch.setattr(doorbell_module, "PROOF_SECONDS", FOR_EVER)
    monkeypatch.setattr(leadership_module, "CURSOR_SAVE_SECONDS", FOR_EVER)


# The writer's side.


async def test_with_nobody_there_writers_keep_silent(installation: Database) -> None:
    async with hearing(installation) as rings:
        for number in range(5):
            installation.run(ADD, [user(number), 1])
        assert await heard(installation, rings) == 0


async def test_writers_ring_while_somebody_sleeps(installation: Database) -> None:
    async with hearing(installation) as rings, installation.connect() as sleeper:
        await sleeper.execute(f"SELECT pg_advisory_lock({K})".encode())
        installation.run(ADD, [USER, 1])
        assert await heard(installation, rings) == 1
        installation.run("UPDATE user_credits SET credits = 2")
        installation.run("DELETE FROM user_credits")
        installation.run("TRUNCATE user_credits")
        assert await heard(installation, rings) == 4
        installation.run("UPDATE user_credits SET note = 'x'")
        assert await heard(installation, rings) == 4
        await sleeper.execute(f"SELECT pg_advisory_unlock({K})".encode())
        installation.run(ADD, [USER, 1])
        assert await heard(installation, rings) == 4


async def test_one_transaction_rings_once(installation: Database) -> None:
    async with hearing(installation) as rings, installation.connect() as sleeper, installation.connect() as writer:
        await sleeper.execute(f"SELECT pg_advisory_lock({K})".encode())
        async with writer.transaction():
            for number in range(20):
                await writer.execute(ADD, [user(number), 1])
        assert await heard(installation, rings) == 1
        async with writer.transaction(force_rollback=True):
            await writer.execute(ADD, [USER, 1])
        assert await heard(installation, rings) == 1


async def test_a_silent_writer_keeps_the_daemon_from_sleep_and_the_next_writer_rings(installation: Database) -> None:
    async with (
        hearing(installation) as rings,
        installation.connect() as silent,
        installation.connect() as sleeper,
        installation.connect() as watcher,
    ):
        await silent.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await silent.execute("SAVEPOINT here")
        await silent.execute(ADD, [USER, 1])
        await silent.execute("RELEASE here")
        asking = asyncio.create_task(sleeper.execute(f"SELECT pg_advisory_lock({K})".encode()))
        await eventually(lambda: asked(watcher))
        installation.run(ADD, [OTHER, 1])
        assert await heard(installation, rings) == 1
        assert not asking.done()
        await silent.execute("COMMIT")
        await asking
        assert await heard(installation, rings) == 1


async def test_a_savepoint_rolled_back_may_ring_but_never_silences(installation: Database) -> None:
    async with hearing(installation) as rings, installation.connect() as writer, installation.connect() as sleeper:
        async with writer.transaction():
            async with writer.transaction(force_rollback=True):
                await writer.execute(ADD, [USER, 1])  # takes the lock, and gives it back
            await sleeper.execute(f"SELECT pg_advisory_lock({K})".encode())
            await writer.execute(ADD, [OTHER, 1])
        assert await heard(installation, rings) == 1


async def test_with_polling_nobody_ever_rings_and_transactions_can_be_prepared(reference_table: Database) -> None:
    settings = await installed(reference_table, wakeup="poll")
    async with (
        hearing(reference_table) as rings,
        reference_table.connect() as sleeper,
        reference_table.connect() as writer,
        Line.settled(settings) as line,
    ):
        await sleeper.execute(f"SELECT pg_advisory_lock({K})".encode())
        await writer.execute("BEGIN")
        await writer.execute(ADD, [USER, 1])
        await writer.execute(f"PREPARE TRANSACTION '{reference_table.name}'".encode())
        await writer.execute(f"COMMIT PREPARED '{reference_table.name}'".encode())
        assert await heard(reference_table, rings) == 0
        assert [total.user_id for total in await line.settle()] == [USER]


async def test_with_the_bell_a_transaction_that_rings_cannot_be_prepared(installation: Database) -> None:
    # Why wakeup = "poll" is there.
    async with installation.connect() as sleeper, installation.connect() as writer:
        await sleeper.execute(f"SELECT pg_advisory_lock({K})".encode())
        await writer.execute("BEGIN")
        await writer.execute(ADD, [USER, 1])
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="NOTIFY"):
            await writer.execute(f"PREPARE TRANSACTION '{installation.name}'".encode())


# The daemon's side.


async def test_the_daemon_sleeps_when_there_is_nothing_to_do(
    installation: Database, settings: Settings, no_fallback: None
) -> None:
    async with running(settings, MemorySink()) as daemon, hearing(installation) as rings:
        await until(daemon, "doorbell", "asleep")
        locks = installation.run(K_HELD)
        assert locks == [("ExclusiveLock", True)]
        installation.run(ADD, [USER, 1])
        assert await heard(installation, rings) == 1


async def test_a_ring_wakes_it(installation: Database, settings: Settings, no_fallback: None) -> None:
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        for number in range(1, 6):
            await until(daemon, "doorbell", "asleep")
            installation.run(ADD, [USER, 1])
            await sink.until_credits(USER, number)


async def test_under_load_it_stays_awake_and_writers_keep_silent(
    installation: Database, settings: Settings, no_fallback: None
) -> None:
    sink = MemorySink()
    with capture_logs() as logs:
        async with running(settings, sink) as daemon:
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
    own_postgres: Callable[..., Postgres], no_fallback: None
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

    async with running(settings, MemorySink()) as daemon:
        await until(daemon, "doorbell", "asleep")
        writing = [asyncio.create_task(write(number)) for number in range(8)]
        await until(daemon, "doorbell", "awake")
        stopped.set()
        await asyncio.gather(*writing)
        await until(daemon, "doorbell", "asleep")


@pytest.mark.parametrize("seed", range(2))
async def test_bursts_without_any_fallback_never_leave_it_stale(
    installation: Database, settings: Settings, no_fallback: None, seed: int
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
        running(settings, sink),
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
                await sink.until_credits(name, amount, seconds=5)


async def test_while_it_asks_it_goes_on_draining(installation: Database, settings: Settings, no_fallback: None) -> None:
    sink = MemorySink()
    async with installation.connect() as silent:
        await silent.execute("BEGIN")
        await silent.execute(ADD, [OTHER, 7])
        async with running(settings, sink) as daemon:
            await until(daemon, "doorbell", "asking")
            await eventually(lambda: asked(silent))
            for number in range(1, 4):
                installation.run(ADD, [USER, 1])
                await sink.until_credits(USER, number)
            assert daemon.health()["doorbell"] == "asking"
            await silent.execute("COMMIT")
            await sink.until_credits(OTHER, 7)
            await until(daemon, "doorbell", "asleep")


async def test_while_it_asks_it_also_looks_by_itself(
    installation: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell_module, "ASKING_POLL_SECONDS", 0.05)
    sink = MemorySink()
    async with installation.connect() as silent, installation.connect() as second:
        for session in (silent, second):  # before anybody asks: both keep silent
            await session.execute("BEGIN")
            await session.execute(ADD, [USER, 1])
        async with running(settings, sink) as daemon:
            await until(daemon, "doorbell", "asking")
            await second.execute("COMMIT")
            await sink.until_credits(USER, 1)
            assert daemon.health()["doorbell"] == "asking"
        await silent.execute("ROLLBACK")


async def test_a_daemon_that_ends_leaves_nobody_ringing(installation: Database, settings: Settings) -> None:
    async with running(settings, MemorySink()) as daemon:
        await until(daemon, "doorbell", "asleep")
    async with hearing(installation) as rings:
        installation.run(ADD, [USER, 1])
        assert await heard(installation, rings) == 0


async def test_a_request_that_is_given_up_leaves_no_lock_and_no_request(
    installation: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell_module, "ASKING_POLL_SECONDS", FOR_EVER)
    sink = MemorySink()
    with capture_logs() as logs:
        async with installation.connect() as silent, installation.connect() as writer:
            await silent.execute("BEGIN")
            await silent.execute(ADD, [OTHER, 7])
            async with running(settings, sink) as daemon:
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
                assert installation.run(K_HELD) == [("ExclusiveLock", True)]

            async def held() -> list[Any]:
                return installation.run(K_HELD)

            await eventually(held, lambda found: found == [])  # the server ends a session a moment after its client


# A bell that does not ring.


@asynccontextmanager
async def resting(
    settings: Settings, listen_dsn: str, *, listens: bool
) -> AsyncIterator[tuple[Doorbell, Line, dict[str, Any]]]:
    """The doorbell and a reader that drains after each rest, as the daemon does; what is stored, kept up to date."""
    async with (
        Line.settled(settings) as line,
        connected(listen_dsn, purpose="doorbell") as listener,
        connected(settings.dsn, purpose="sleep") as keeper,
    ):
        bell = Doorbell(listener, keeper, polls=False, poll_seconds=0.02, busy_poll_seconds=0.005)
        if listens:
            await bell.listen()
        stored: dict[str, Any] = {}

        async def lead() -> None:
            while True:
                if bell.due_for_proof():
                    await bell.prove(line.connection)
                drained = await line.change_reader.drain(100)
                stored.update({total.user_id: total.credits for total in drained.totals})
                await bell.rest(read=drained.page["changes"], worked_seconds=0, due_seconds=None)

        tasks = [asyncio.create_task(each) for each in (bell.hold_sleep_lock(), bell.listening(), lead())]
        try:
            yield bell, line, stored
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_listener_that_hears_nothing_is_told_of_and_polled_instead(
    installation: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As behind a transaction pooler: LISTEN succeeds, on somebody else's connection.
    monkeypatch.setattr(doorbell_module, "PROOF_PATIENCE_SECONDS", 0.05)
    with capture_logs() as logs:
        async with resting(settings, settings.dsn, listens=False) as (bell, _, stored):

            async def lost() -> list[Any]:
                return [event for event in logs if event["event"] == "doorbell.lost"]

            (event,) = await eventually(lost)
            assert event["log_level"] == "error"
            assert "CREDITSD_LISTEN_DSN" in event["hint"]
            assert bell.state == "polling"
            installation.run(ADD, [USER, 1])

            async def seen() -> dict[str, Any]:
                return stored

            await eventually(seen, lambda found: found == {USER: 1})


async def test_a_bell_that_is_lost_and_comes_back_is_noticed_both_times(
    installation: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell_module, "PROOF_SECONDS", 0.4)
    monkeypatch.setattr(doorbell_module, "PROOF_PATIENCE_SECONDS", 0.2)
    info = psycopg.conninfo.conninfo_to_dict(settings.dsn)
    async with Proxy(str(info["host"]), int(info["port"] or 5432)) as proxy:
        through = make_conninfo(settings.dsn, host=proxy.host, port=proxy.port)
        with capture_logs() as logs:
            async with resting(settings, through, listens=True) as (bell, _, stored):

                async def state() -> str:
                    return bell.state

                await eventually(state, lambda now: now == "asleep")
                await proxy.freeze()
                await eventually(state, lambda now: now == "polling")
                installation.run(ADD, [USER, 1])

                async def seen() -> dict[str, Any]:
                    return stored

                await eventually(seen, lambda found: found == {USER: 1})
                await proxy.restore()
                await eventually(state, lambda now: now == "asleep")
                installation.run(ADD, [USER, 1])
                await eventually(seen, lambda found: found == {USER: 2})
        events = [event["event"] for event in logs if event["event"] in ("doorbell.lost", "doorbell.proven")]
        assert events[:3] == ["doorbell.proven", "doorbell.lost", "doorbell.proven"]
