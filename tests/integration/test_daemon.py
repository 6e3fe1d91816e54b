"""The whole line in one process: start, stand by, take over, survive, stop."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis.asyncio as redis
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from creditsd.admin.inspect import Inspector
from creditsd.capture import doorbell
from creditsd.config.settings import Settings
from creditsd.daemon import app as daemon_module
from creditsd.daemon import pipeline
from creditsd.daemon.app import Daemon, Timings
from creditsd.domain.errors import ConfigError, CreditsdError, DatabaseUnavailable, SchemaError, SinkUnavailable
from creditsd.schema import install as schema
from tests.conftest import Database, eventually
from tests.integration.line import ADVISORY, K_HELD, OTHER, USER, Line, MemorySink, configured, installed, said, user
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE, Postgres, Valkey

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "STANDBY_SECONDS", 0.05)
    monkeypatch.setattr(daemon_module, "PURGE_SECONDS", 0.05)
    monkeypatch.setattr(daemon_module, "MENDING_SECONDS", 0.05)


async def test_the_first_start_tells_of_everyone_and_the_next_of_nobody(
    installation: Database, settings: Settings
) -> None:
    installation.run(
        "INSERT INTO user_credits (user_id, credits, status) "
        "SELECT lpad(to_hex(n), 32, '0')::uuid, n, 'active' FROM generate_series(1, 250) AS n"
    )
    settings = configured(installation, max_batch_users=100)
    sink, steps = MemorySink(), []
    daemon = Daemon(settings, progress=lambda *step: steps.append(step), extra=[("memory", sink)])
    task = asyncio.create_task(daemon.run())
    await sink.until(lambda: len(sink.newest) == 250)
    await until(daemon, "state", "leading")
    assert daemon.health()["ready"]
    daemon.stop()
    await task
    assert steps == [(100, 250, False), (200, 250, False), (250, 250, True)]
    assert {total.cause for total in sink.totals} == {"backfill"}
    again = MemorySink()
    async with running(settings, again) as daemon:
        await until(daemon, "state", "leading")
        installation.run(ADD, [user(9999), 1])
        await again.until_credits(user(9999), 1)
    assert [total.user_id for total in again.totals] == [user(9999)]


async def test_a_change_arrives_in_valkey_as_get_tells_it(installation: Database, valkey: Valkey) -> None:
    settings = configured(installation, sinks=[{"name": "cache", "url": valkey.url}])
    async with redis.Redis.from_url(valkey.url) as client, client.pubsub() as subscriber:
        await subscriber.subscribe(f"credits:{USER}")
        assert (await subscriber.get_message(timeout=5) or {})["type"] == "subscribe"
        async with running(settings):
            installation.run(ADD, [USER, 5])
            message = await subscriber.get_message(ignore_subscribe_messages=True, timeout=10)
            async with Inspector.opened(settings, purpose="get") as inspector:
                told = (await inspector.total(USER)).json()
        assert message is not None
        assert message["data"] == told == await client.get(f"credits:{USER}")
        assert json.loads(told)["credits"] == 5


async def test_stopping_delivers_and_saves_what_was_committed(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        await until(daemon, "state", "leading")
        installation.run(ADD, [USER, 5])
        await sink.until_credits(USER, 5)
    assert sink.closed == 1
    assert daemon.state == "stopping"
    assert installation.run("SELECT cursor FROM creditsd.sinks") == [(sink.newest[USER].version,)]
    async with Line.opened(settings) as line:
        assert line.resumption.resyncing is None
        assert await line.marked() == []


async def test_stopping_is_bounded_by_its_setting_whatever_a_sink_does(installation: Database) -> None:
    sink = MemorySink()
    sink.gate.clear()
    installation.run(ADD, [USER, 5])
    settings = configured(installation, shutdown_seconds=0.2)
    with capture_logs() as logs:
        daemon = Daemon(settings, extra=[("memory", sink)])
        task = asyncio.create_task(daemon.run())

        async def tries() -> int:
            return sink.tries

        await eventually(tries)
        daemon.stop()
        async with asyncio.timeout(5):
            await task
    assert [event["sink"] for event in logs if event["event"] == "publisher.left_behind"] == ["memory"]
    assert installation.run("SELECT cursor FROM creditsd.sinks") == [(0,)]


async def test_a_daemon_stopped_before_it_leads_ends_at_once(installation: Database, settings: Settings) -> None:
    async with running(settings, MemorySink()):
        pass


async def test_a_second_daemon_stands_by_and_takes_over(installation: Database, settings: Settings) -> None:
    first_sink, second_sink = MemorySink(), MemorySink()
    async with running(settings, second_sink) as second:
        await until(second, "state", "leading")
        async with running(settings, first_sink) as first:
            await until(first, "state", "standby")
            assert first.health()["ready"]
            installation.run(ADD, [USER, 1])
            await second_sink.until_credits(USER, 1)
            assert first_sink.tries == 0
            second.stop()
            await until(first, "state", "leading")
            installation.run(ADD, [USER, 1])
            total = await first_sink.until_credits(USER, 2)
            assert total.version > second_sink.newest[USER].version
    # The same name is the same sink: what the one had delivered the other does not repeat.
    assert [total.credits for total in first_sink.totals] == [2]


async def test_a_standby_takes_over_from_a_leader_whose_session_is_ended(
    installation: Database, settings: Settings
) -> None:
    sinks = MemorySink(), MemorySink()
    async with running(settings, sinks[0]) as one:
        await until(one, "state", "leading")
        async with running(settings, sinks[1]) as other:
            await until(other, "state", "standby")
            installation.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'creditsd leader' AND pid IN "
                f"(SELECT pid {ADVISORY} AND objid = 2 AND granted)"
            )
            installation.run(ADD, [USER, 1])

            async def newest() -> list[Any]:
                return [sink.newest[USER].credits for sink in sinks if USER in sink.newest]

            await eventually(newest, lambda found: 1 in found)
            states = {str(each.health()["state"]) for each in (one, other)}
            assert "leading" in states


async def test_read_changes_are_purged_in_the_background(
    installation: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    timings = Timings(pipeline=pipeline.Timings(cursor_save_seconds=0.05))
    monkeypatch.setattr(daemon_module, "PURGE_CHANGES", 7)
    sink = MemorySink()
    async with running(settings, sink, timings=timings), installation.connect() as application:
        for number in range(40):
            await application.execute(ADD, [user(number % 20), 1])
        await sink.until(lambda: len(sink.newest) == 20)

        async def left() -> Any:
            return (await (await application.execute("SELECT count(*) FROM creditsd.changes")).fetchall())[0][0]

        await eventually(left, lambda count: count == 0)


async def test_a_truncate_is_told_to_everyone(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        for number in range(3):
            installation.run(ADD, [user(number), 1])
        await sink.until(lambda: len(sink.newest) == 3)
        installation.run("TRUNCATE user_credits")
        for number in range(3):
            await sink.until_credits(user(number), 0)
        await until(daemon, "state", "leading")


async def test_a_detached_partition_is_noticed_by_the_next_heartbeat(
    database: Database,
) -> None:
    timings = Timings(doorbell=doorbell.Timings(heartbeat_seconds=0.2))
    database.run("CREATE TABLE user_credits (user_id uuid, credits int, status text) PARTITION BY HASH (user_id)")
    for number in range(2):
        database.run(
            f"CREATE TABLE part_{number} PARTITION OF user_credits FOR VALUES WITH (MODULUS 2, REMAINDER {number})"
        )
    settings = await installed(database)
    sink = MemorySink()
    names = [user(number) for number in range(6)]
    for name in names:
        database.run(ADD, [name, 1])
    async with running(settings, sink, timings=timings):
        await sink.until(lambda: len(sink.newest) == 6)
        gone = [str(name) for (name,) in database.run("SELECT user_id FROM part_1")]
        database.run("ALTER TABLE user_credits DETACH PARTITION part_1")
        for name in gone:
            await sink.until_credits(name, 0)
        assert all(sink.newest[name].credits == 1 for name in names if name not in gone)


async def test_a_sink_that_is_down_at_the_start_stops_neither_the_daemon_nor_the_others(
    installation: Database, settings: Settings
) -> None:
    down, up = MemorySink(), MemorySink()
    down.failure = SinkUnavailable("not yet")
    async with running(settings, down, up) as daemon:
        installation.run(ADD, [USER, 1])
        await up.until_credits(USER, 1)

        async def health() -> Any:
            return daemon.health()["sinks"]

        await eventually(health, lambda found: found == {"memory": "not yet", "memory-2": "current"})
        down.failure = None
        await down.until_credits(USER, 1)


async def test_a_bug_ends_it(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    sink.failure = ZeroDivisionError("a bug")
    daemon = Daemon(settings, extra=[("memory", sink)])
    async with asyncio.timeout(10):
        with pytest.raises(ExceptionGroup) as ended:
            await daemon.run()
    assert ended.group_contains(ZeroDivisionError)


async def test_a_bug_ends_it_though_a_task_swallows_being_cancelled(
    installation: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the pool does now and then, when a connection is free in the moment of the cancellation.
    swallowed = asyncio.Event()

    async def purge(_: Daemon) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if swallowed.is_set():
                    raise
                swallowed.set()

    monkeypatch.setattr(Daemon, "_purge", purge)
    sink = MemorySink()
    sink.failure = ZeroDivisionError("a bug")
    async with asyncio.timeout(10):
        with pytest.raises(ExceptionGroup):
            await Daemon(settings, extra=[("memory", sink)]).run()
    assert swallowed.is_set()


# Starts that cannot succeed.


@pytest.mark.parametrize(
    ("dsn", "kind", "says"),
    [
        ({"dbname": "no_such_database"}, ConfigError, "no_such_database"),
        ({"user": "no_such_role"}, ConfigError, "no_such_role"),
        ({"port": 1}, DatabaseUnavailable, "is PostgreSQL running"),
    ],
)
async def test_a_first_start_that_finds_no_database_says_why(
    installation: Database, settings: Settings, dsn: dict[str, str | int], kind: type[CreditsdError], says: str
) -> None:
    sink = MemorySink()
    wrong = settings.model_copy(update={"dsn": make_conninfo(settings.dsn, **dsn)})
    async with asyncio.timeout(10):
        with pytest.raises(kind, match=says):
            await Daemon(wrong, extra=[("memory", sink)]).run()
    assert sink.tries == 0


async def test_a_first_start_where_nothing_is_installed_says_what_to_do(reference_table: Database) -> None:
    settings = configured(reference_table)
    with pytest.raises(SchemaError, match="not installed in this database: run `creditsd install`"):
        await Daemon(settings, extra=[("memory", MemorySink())]).run()
    await schema.install(settings)
    reference_table.run("DROP TRIGGER creditsd_delete ON user_credits")
    with pytest.raises(SchemaError, match=r"triggers are missing on public\.user_credits: run `creditsd install`"):
        await Daemon(settings, extra=[("memory", MemorySink())]).run()


async def test_settings_that_differ_from_the_install_are_refused(installation: Database) -> None:
    settings = configured(installation, source={"active_statuses": ["live"]})
    with pytest.raises(SchemaError, match="settings differ from what is installed: run `creditsd install`"):
        await Daemon(settings).run()


async def test_an_address_that_is_taken_is_said(installation: Database) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        host, port = taken.getsockname()
        settings = configured(installation, http={"listen": f"{host}:{port}"})
        with pytest.raises(ConfigError, match=rf"cannot listen on {host}:{port}"):
            await Daemon(settings).run()


def test_a_sink_nobody_knows_is_refused_before_anything_is_opened(installation: Database) -> None:
    with pytest.raises(ConfigError, match="unknown scheme 'redsi': did you mean redis"):
        Daemon(configured(installation, sinks=[{"name": "cache", "url": "redsi://localhost"}]))


# What happens to it later.


async def test_an_uninstall_pauses_it_and_an_install_resumes_it(reference_table: Database) -> None:
    settings = await installed(reference_table)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        reference_table.run(ADD, [USER, 1])
        first = await sink.until_credits(USER, 1)
        await schema.uninstall(settings)
        reference_table.run(ADD, [USER, 1])
        await eventually_disconnected(reference_table, daemon)
        await schema.install(settings)
        total = await sink.until_credits(USER, 2)
        assert total.version > first.version
        reference_table.run(ADD, [OTHER, 1])
        await sink.until_credits(OTHER, 1)


async def eventually_disconnected(database: Database, daemon: Daemon) -> None:
    """Stir the daemon until it notices: with the triggers gone nobody rings."""

    async def state() -> object:
        database.run("SELECT pg_notify('creditsd', '')")
        return daemon.health()["state"]

    await eventually(state, lambda now: now == "disconnected")


async def test_ended_connections_are_opened_again(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        installation.run(ADD, [USER, 1])
        await sink.until_credits(USER, 1)
        for number, purpose in enumerate(("leader", "doorbell", "sleep", "publisher"), start=2):
            await until(daemon, "doorbell", "asleep")
            installation.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s "
                "AND datname = current_database()",
                [f"creditsd {purpose}"],
            )
            installation.run(ADD, [USER, 1])
            await sink.until_credits(USER, number)


async def test_a_server_that_restarted_is_told_of_again_with_new_versions(
    own_postgres: Callable[..., Postgres],
) -> None:
    server = own_postgres()
    server.psql(REFERENCE_TABLE)
    database = Database(server, "postgres", server.dsn())
    settings = await installed(database)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        database.run(ADD, [USER, 5])
        database.run(
            "INSERT INTO user_credits (user_id, credits, status, expires_at) VALUES (%s, 7, 'active', %s)",
            [OTHER, datetime.now(UTC) + timedelta(seconds=2)],
        )
        before = await sink.until_credits(USER, 5)
        await sink.until_credits(OTHER, 7)
        database.run("CHECKPOINT")  # ours commit asynchronously; a first start is another story
        await asyncio.to_thread(server.restart, "immediate")
        await sink.until(lambda: sink.newest[USER].version > before.version, seconds=20)
        assert said(sink.newest[USER], "credits", "cause") == (5, "repair")
        await sink.until_credits(OTHER, 0, seconds=20)
        await until(daemon, "state", "leading")
        database.run(ADD, [USER, 1])
        await sink.until_credits(USER, 6)
    # Told once: the next daemon finds nothing to repair.
    quiet = MemorySink()
    async with running(settings, quiet) as daemon:
        await until(daemon, "doorbell", "asleep")
    assert quiet.totals == []


async def test_with_polling_changes_arrive_and_nobody_listens(reference_table: Database) -> None:
    settings = await installed(reference_table, wakeup="poll", poll_seconds=0.02)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        reference_table.run(ADD, [USER, 1])
        await sink.until_credits(USER, 1)
        assert daemon.health()["doorbell"] == "polling"
        held = reference_table.run(K_HELD)
        assert held == []


async def test_status_tells_who_leads_and_what_waits(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    async with Inspector.opened(settings, purpose="status") as inspector:
        status = await inspector.status()
        assert (status.leader_pid, status.doorbell, status.sinks) == (None, "nobody", [])
        async with running(settings, sink) as daemon:
            installation.run(ADD, [USER, 1])
            total = await sink.until_credits(USER, 1)
            await until(daemon, "doorbell", "asleep")
            status = await inspector.status()
            assert (status.doorbell, status.unread, status.resyncing, status.newest) == (
                "asleep",
                0,
                None,
                total.version,
            )
            assert status.leader_pid in {
                pid
                for (pid,) in installation.run(
                    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s", ["creditsd%"]
                )
            }
        installation.run(ADD, [USER, 1])
        status = await inspector.status()
        assert (status.leader_pid, status.unread) == (None, 1)
        assert [(each.name, each.cursor, each.queue) for each in status.sinks] == [("memory", total.version, 0)]


async def test_watching_shows_a_user_and_then_each_newer_total(installation: Database, settings: Settings) -> None:
    async with running(settings, MemorySink()), Inspector.opened(settings, purpose="watch") as inspector:
        seen = inspector.watch([USER])
        async with asyncio.timeout(10):
            assert (await anext(seen)).version == 0
            installation.run(ADD, [OTHER, 1])
            installation.run(ADD, [USER, 1])
            assert (await anext(seen)).credits == 1
            installation.run(ADD, [USER, 1])
            assert (await anext(seen)).credits == 2
