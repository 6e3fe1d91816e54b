"""As a managed service has it: administrators who are no superusers, and computes that sleep when nobody asks.

The services themselves are not here; what they refuse is taken away from a plain PostgreSQL.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from creditsd.capture import change_purger, doorbell
from creditsd.daemon import election, lock_watch, pipeline
from creditsd.daemon.app import Daemon
from creditsd.daemon.timings import Timings
from creditsd.delivery.timings import TIMINGS
from creditsd.domain.errors import SchemaError
from creditsd.metrics import collectors
from creditsd.schema import install as schema
from creditsd.schema import watch
from creditsd.totals import history_partitions
from creditsd.totals import timings as totals
from tests.conftest import Database, eventually
from tests.http.asking import asking, http
from tests.http.test_metrics import scraped
from tests.integration.line import USER, MemorySink, as_role, configured, installed
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE, Postgres

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"


@pytest.fixture
def boss(database: Database, role: str) -> Iterator[Database]:
    """The database as its administrator sees it: as cloudsqlsuperuser, rds_superuser or azure_pg_admin are."""
    database.run(f"ALTER ROLE {role} NOSUPERUSER CREATEDB CREATEROLE NOREPLICATION")
    database.run(f"GRANT pg_monitor, pg_signal_backend TO {role}")
    database.run(f"ALTER DATABASE {database.name} OWNER TO {role}")
    database.run(f"ALTER SCHEMA public OWNER TO {role}")
    yield as_role(database, role)
    database.run(f"ALTER DATABASE {database.name} OWNER TO CURRENT_USER")


@contextmanager
def made_by(boss: Database, database: Database, what: str) -> Iterator[str]:
    """Have the administrator make a role that may log in, and take it away again."""
    name = f"{what}_{boss.name}"
    boss.run(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    try:
        yield name
    finally:
        database.run(f"DROP OWNED BY {name} CASCADE")
        database.run(f"DROP ROLE {name}")


async def test_an_administrator_who_is_no_superuser_installs_and_a_role_of_few_rights_leads(
    boss: Database, database: Database
) -> None:
    boss.run(REFERENCE_TABLE)
    with made_by(boss, database, "daemon") as daemon_role:
        await installed(boss, role=daemon_role)
        limited = Database(boss.server, boss.name, make_conninfo(boss.dsn, user=daemon_role))
        sink = MemorySink()
        async with running(configured(limited), sink) as daemon:
            await until(daemon, "state", "leading")
            boss.run(ADD, [USER, 5])
            await sink.until_credits(USER, 5)
        assert (await schema.uninstall(configured(boss))).done[-1] == "dropped the schema creditsd"


async def test_an_administrator_installs_for_another_role_once_a_member_of_it(
    boss: Database, database: Database, role: str
) -> None:
    with made_by(boss, database, "owner") as owner:
        boss.run(f"GRANT CREATE ON SCHEMA public TO {owner}")
        application = Database(boss.server, boss.name, make_conninfo(boss.dsn, user=owner))
        application.run(REFERENCE_TABLE)
        with pytest.raises(SchemaError, match=f"belongs to {owner}: run `creditsd install` as {owner}"):
            await installed(boss)
        boss.run(f"GRANT {owner} TO {role}")
        settings = await installed(boss)
        assert (await schema.install(settings)).done == []
        owners = "SELECT DISTINCT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'creditsd'::regnamespace"
        assert boss.run(owners) == [(owner,)]
        sink = MemorySink()
        async with running(settings, sink) as daemon:
            await until(daemon, "state", "leading")
            application.run(ADD, [USER, 5])
            await sink.until_credits(USER, 5)
        await schema.uninstall(settings)


LOOKING = Timings(
    doorbell=doorbell.Timings(heartbeat_seconds=0.1),
    purger=change_purger.Timings(pause_seconds=0.05),
    totals=totals.Timings(partitions=history_partitions.Timings(tidy_seconds=0.1)),
    delivery=replace(TIMINGS, look_seconds=0.1, save_seconds=0.1),
    election=election.Timings(standby_seconds=0.1),
    locks=lock_watch.Timings(look_seconds=0.05),
    pipeline=pipeline.Timings(cursor_save_seconds=0.1),
    metrics=collectors.Timings(look_seconds=0.1),
    watch=watch.Timings(look_seconds=0.1, mending_seconds=0.1),
    stuck_seconds=1.0,
)
"""Whatever looks now and then would look many times a second, if nothing held it back."""

FOR_LONG = 600.0
STILL_SECONDS = 1.0
"""Ten times what anything waits that is to be done after a change."""
QUIET_SECONDS = 4.0
"""Some forty looks of each that looks."""

OURS = "datname = current_database() AND application_name LIKE 'creditsd %'"
ASKED = f"SELECT pid, query_start::text FROM pg_stat_activity WHERE {OURS} ORDER BY pid"
POLL_COSTS = 6, 6
"""How many transactions a poll is at most, of the line and of each sink: docs/deploy.md."""


async def idle(database: Database, daemon: Daemon) -> Any:
    """Wait until a daemon has done all there is to do; return who of its sessions asked something when."""
    await until(daemon, "sinks", {"memory": "current"})
    seen: Any = None
    since = time.monotonic()

    async def still_seconds() -> float:
        nonlocal seen, since
        now = database.run(ASKED)
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since

    await eventually(still_seconds, lambda seconds: seconds > STILL_SECONDS)
    return seen


@pytest.mark.parametrize("history_days", [0, 7])
async def test_an_idle_daemon_that_polls_asks_nothing_between_two_polls(
    reference_table: Database, history_days: int
) -> None:
    settings = await installed(
        reference_table, wakeup="poll", poll_seconds=FOR_LONG, history={"days": history_days}, http=http()
    )
    reference_table.run(ADD, [USER, 1])
    sink = MemorySink()
    async with (
        running(settings, sink, timings=LOOKING) as daemon,
        asking(int(settings.http.listen.rpartition(":")[2])) as client,
    ):
        await sink.until_credits(USER, 1)
        await idle(reference_table, daemon)
        await scraped(client)
        asked = await idle(reference_table, daemon)
        began = time.monotonic()
        while time.monotonic() - began < QUIET_SECONDS:
            await scraped(client)
            await asyncio.sleep(0.1)
        assert reference_table.run(ASKED) == asked
        health = daemon.health()
        assert (health["state"], health["alive"], health["ready"]) == ("leading", True, True)


async def test_each_poll_of_an_idle_daemon_is_a_handful_of_transactions(reference_table: Database) -> None:
    settings = await installed(reference_table, wakeup="poll", poll_seconds=2.0)
    sinks = MemorySink(), MemorySink()

    def counted() -> int:
        """Count by another database: what asks here would count itself."""
        with reference_table.server.connect() as connection:
            asked = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"
            found = connection.execute(asked, [reference_table.name]).fetchone()
            assert found is not None
            return int(str(found[0]))

    async with running(settings, *sinks, timings=LOOKING) as daemon:
        await until(daemon, "sinks", {"memory": "current", "memory-2": "current"})

        async def polls() -> int:
            return daemon._pipeline.polls.begun

        # A session tells what it has done when it is asked the next time, at the next poll: so it may be two more.
        begun = await polls() + 2
        await eventually(polls, lambda now: now >= begun)
        before = counted()
        await eventually(polls, lambda now: now >= begun + 6)
        found = counted() - before
        seen = await polls() - begun + 3  # one more may have begun since; autovacuum's few are counted with ours
        line, each_sink = POLL_COSTS
        assert 6 <= found <= seen * (line + 2 * each_sink)


async def test_a_suspension_is_noticed_at_the_next_poll_and_nothing_is_lost(reference_table: Database) -> None:
    settings = await installed(reference_table, wakeup="poll", poll_seconds=4.0)
    reference_table.run(ADD, [USER, 1])
    sink = MemorySink()
    async with running(settings, sink, timings=LOOKING) as daemon:
        await sink.until_credits(USER, 1)
        await idle(reference_table, daemon)
        with capture_logs() as events:
            ended = reference_table.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")
            assert len(ended) >= 2
            reference_table.run(ADD, [USER, 1])
            await eventually(lambda: gone(reference_table))
            assert daemon.health()["state"] == "leading"
            await sink.until_credits(USER, 2)
            await until(daemon, "sinks", {"memory": "current"})
        said = [each["event"] for each in events if each["log_level"] != "debug"]
        assert said.count("daemon.session_ended") == 1
        assert {each["log_level"] for each in events} <= {"debug", "info"}
        assert [total.credits for total in sink.totals] == [1, 2]


async def test_a_server_that_restarts_between_two_polls_has_nobody_told_again(
    own_postgres: Callable[..., Postgres],
) -> None:
    server = own_postgres()
    database = Database(server, "postgres", server.dsn())
    database.run(REFERENCE_TABLE)
    settings = await installed(database, wakeup="poll", poll_seconds=3.0)
    database.run(ADD, [USER, 1])
    sink = MemorySink()
    async with running(settings, sink, timings=LOOKING) as daemon:
        await sink.until_credits(USER, 1)
        await idle(database, daemon)
        for amount in (2, 3):
            with capture_logs() as events:
                await asyncio.to_thread(server.restart)
                database.run(ADD, [USER, 1])
                await sink.until_credits(USER, amount)
                await idle(database, daemon)
            assert {each["log_level"] for each in events} <= {"debug", "info"}
            assert [each["users"] for each in events if each["event"] == "balances.republished"] == [0]
    assert [total.credits for total in sink.totals] == [1, 2, 3]


async def gone(database: Database) -> bool:
    """Whether no session of the daemon's is left: it does not connect again by itself."""
    return database.run(f"SELECT FROM pg_stat_activity WHERE {OURS}") == []


async def test_what_time_changes_is_told_in_time_however_rare_the_polls(reference_table: Database) -> None:
    settings = await installed(reference_table, wakeup="poll", poll_seconds=FOR_LONG)
    reference_table.run(
        "INSERT INTO user_credits (user_id, credits, status, expires_at) "
        "VALUES (%s, 5, 'active', now() + interval '4 seconds')",
        [USER],
    )
    sink = MemorySink()
    async with running(settings, sink, timings=LOOKING):
        await sink.until_credits(USER, 5)
        await sink.until_credits(USER, 0)


async def test_what_is_written_while_no_daemon_keeps_a_compute_awake_is_told_at_the_next_start(
    reference_table18: Database,
) -> None:
    settings = await installed(reference_table18)
    sink = MemorySink()
    async with running(settings, sink):
        reference_table18.run(ADD, [USER, 1])
        await sink.until_credits(USER, 1)
    reference_table18.run(ADD, [USER, 1])
    later = MemorySink()
    async with running(settings, later):
        await later.until_credits(USER, 2)
