"""Somebody else holds a lock that we need: named within seconds, by the log, /readyz and status."""

from __future__ import annotations

from functools import partial
from operator import le

import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from creditsd.admin.inspect import Inspector
from creditsd.config.settings import Settings
from creditsd.daemon import election, leader_watch, lock_watch
from creditsd.daemon.app import Daemon
from creditsd.daemon.timings import Timings
from tests.conftest import Database, eventually
from tests.integration.line import LEAD, OTHER, TURN, USER, K, MemorySink
from tests.integration.play import ADD
from tests.integration.running import running, until

WATCHFUL = Timings(
    locks=lock_watch.Timings(look_seconds=0.05, asleep_seconds=0.1, patience_seconds=0.1),
    election=election.Timings(standby_seconds=0.05, leader=leader_watch.Timings(stranger_seconds=0.1)),
)


def somebody(database: Database) -> Database:
    """The same database, for a session that says what it is."""
    return Database(database.server, database.name, make_conninfo(database.dsn, application_name="psql"))


async def named(daemon: Daemon, pid: int, *words: str) -> None:
    """Wait until the daemon is not ready because of a process."""

    async def problem() -> str:
        health = daemon.health()
        return str(health["problem"] or "") if health["ready"] is False else ""

    found = await eventually(problem, bool)
    assert all(word in found for word in (f"process {pid} (role postgres, psql)", *words)), found


@pytest.mark.parametrize("mode", ["", "_shared"], ids=["exclusive", "shared"])
async def test_a_stranger_that_keeps_it_from_sleep_is_named(
    installation: Database, settings: Settings, mode: str
) -> None:
    sink = MemorySink()
    async with somebody(installation).connect() as stranger:
        await stranger.execute(f"SELECT pg_advisory_lock{mode}({K})".encode())
        with capture_logs() as logs:
            async with running(settings, sink, timings=WATCHFUL) as daemon:
                await named(daemon, stranger.info.backend_pid, "holds the lock K of sleeping", "end it")
                installation.run(ADD, [USER, 1])
                await sink.until_credits(USER, 1)
                async with Inspector.opened(settings, purpose="status") as inspector:
                    (told,) = await inspector.strangers()
                assert told.startswith(f"process {stranger.info.backend_pid} (role postgres, psql) holds the lock K")
                await stranger.execute("SELECT pg_advisory_unlock_all()")
                await until(daemon, "doorbell", "asleep")
                await until(daemon, "problem", None)
                await until(daemon, "ready", True)
        assert [event["log_level"] for event in logs if event["event"] == "daemon.hindered"] == ["error"]


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (f"SELECT pg_advisory_lock({TURN})", "the lock of whose turn it is to store"),
        ("LOCK TABLE creditsd.balances IN ACCESS EXCLUSIVE MODE", "a lock on creditsd.balances"),
    ],
    ids=["our lock", "our table"],
)
async def test_a_stranger_because_of_whom_nothing_is_stored_is_named(
    installation: Database, settings: Settings, statement: str, what: str
) -> None:
    # The line stood still, "leading" and ready.
    sink = MemorySink()
    async with running(settings, sink, timings=WATCHFUL) as daemon, somebody(installation).connect() as stranger:
        await until(daemon, "doorbell", "asleep")
        await stranger.execute("BEGIN")
        await stranger.execute(statement.encode())
        installation.run(ADD, [USER, 1])
        await named(daemon, stranger.info.backend_pid, f"holds {what}")
        await stranger.execute("ROLLBACK")
        await stranger.execute("SELECT pg_advisory_unlock_all()")
        await sink.until_credits(USER, 1)
        await until(daemon, "problem", None)


async def test_a_stranger_that_holds_the_leaders_lock_is_named_by_whoever_would_lead(
    installation: Database, settings: Settings
) -> None:
    sink = MemorySink()
    installation.run(ADD, [USER, 1])
    async with somebody(installation).connect() as stranger:
        await stranger.execute(f"SELECT pg_advisory_lock({LEAD})".encode())
        async with running(settings, sink, timings=WATCHFUL) as daemon:
            await named(daemon, stranger.info.backend_pid, "holds the leader's lock, and is no daemon of ours")
            await stranger.execute("SELECT pg_advisory_unlock_all()")
            await sink.until_credits(USER, 1)
            await until(daemon, "problem", None)


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO user_credits (user_id, credits, status) VALUES ('{OTHER}', 1, 'active')",
        "INSERT INTO user_credits (user_id, credits) VALUES (NULL, 1)",
    ],
    ids=["one user", "nobody"],
)
async def test_a_writer_that_keeps_silent_for_an_hour_is_no_stranger(
    installation: Database, settings: Settings, statement: str
) -> None:
    application = somebody(installation)
    async with application.connect() as silent, application.connect() as stranger:
        await silent.execute("BEGIN")
        await silent.execute(statement.encode())
        await stranger.execute(f"SELECT pg_advisory_lock_shared({K})".encode())
        async with running(settings, MemorySink(), timings=WATCHFUL) as daemon:
            await named(daemon, stranger.info.backend_pid)
            assert str(silent.info.backend_pid) not in str(daemon.health()["problem"])
            await stranger.execute("SELECT pg_advisory_unlock_all()")
            await until(daemon, "problem", None)
            await until(daemon, "doorbell", "asking")
        await silent.execute("ROLLBACK")


@pytest.mark.parametrize("mode", ["", "_shared"], ids=["exclusive", "shared"])
async def test_an_applications_own_advisory_locks_hinder_nobody(
    installation: Database, settings: Settings, mode: str
) -> None:
    # The keys that come to mind first, and ours without the table that they belong to.
    taken = ("1", "0, 0", "0, 806331267", "0, 1249075342", "806331267", "1249075342", "561984073")
    sink = MemorySink()
    async with somebody(installation).connect() as stranger:
        for key in taken:
            await stranger.execute(f"SELECT pg_advisory_lock{mode}({key})".encode())
        with capture_logs() as logs:
            async with running(settings, sink, timings=WATCHFUL) as leader:
                await until(leader, "doorbell", "asleep")
                async with running(settings, timings=WATCHFUL) as standby:
                    await until(standby, "state", "standby")
                    for amount in range(1, 6):
                        installation.run(ADD, [USER, 1])
                        total = await sink.until_credits(USER, amount)
                        await eventually(partial(seen, standby), partial(le, total.version))
                    await until(leader, "doorbell", "asleep")
                    assert [each.health()["problem"] for each in (leader, standby)] == [None, None]
                    async with Inspector.opened(settings, purpose="status") as inspector:
                        assert await inspector.strangers() == []
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = %s AND granted"
        assert installation.run(held, [stranger.info.backend_pid]) == [(len(taken),)]
    assert [event for event in logs if event["event"] == "daemon.hindered"] == []


async def seen(standby: Daemon) -> int:
    """The highest version that a standby knows of."""
    return standby._pipeline.recent.highest


async def test_another_daemon_that_leads_is_no_stranger(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    async with running(settings, sink, timings=WATCHFUL) as leader:
        await until(leader, "doorbell", "asleep")
        async with running(settings, timings=WATCHFUL) as standby:
            await until(standby, "state", "standby")
            async with Inspector.opened(settings, purpose="status") as inspector:
                assert await inspector.strangers() == []

            for amount in range(1, 6):
                installation.run(ADD, [USER, 1])
                total = await sink.until_credits(USER, amount)
                await eventually(partial(seen, standby), partial(le, total.version))  # at each look
            assert standby.health()["problem"] is None
            assert leader.health()["problem"] is None
