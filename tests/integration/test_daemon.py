"""The whole line in one process: start, stand by, take over, survive, stop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import redis.asyncio as redis
from structlog.testing import capture_logs

from creditsd.admin.inspect import Inspector
from creditsd.capture import change_purger
from creditsd.capture.change_purger import ChangePurger
from creditsd.config.settings import Settings
from creditsd.daemon import pipeline
from creditsd.daemon.app import Daemon
from creditsd.daemon.pipeline import Pipeline
from creditsd.daemon.timings import Timings
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.postgres.connections import Pool
from creditsd.schema import install as schema
from creditsd.sinks import Rejection
from tests.conftest import Database, eventually
from tests.integration.line import K_HELD, OTHER, USER, Line, MemorySink, configured, installed, said, tried, user
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE, Postgres, Valkey

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"


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
    await until(daemon, "ready", True)
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


async def test_a_sink_whose_client_raises_what_nobody_expected_stands_still_alone_at_each_start(
    installation: Database, settings: Settings
) -> None:
    class Broken(MemorySink):
        async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
            await super().deliver(totals)
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")

    async def told() -> tuple[bool, bool]:
        sinks: Any = daemon.health()["sinks"]
        says = "stands still: failed unexpectedly: RuntimeError: unable to perform operation"
        return says in sinks["memory-2"], sinks["memory"] == "current"

    well, amount = MemorySink(), 0
    for _ in range(2):
        broken = Broken()
        with capture_logs() as logs:
            async with running(settings, well, broken) as daemon:
                for _ in range(3):
                    installation.run(ADD, [USER, 1])
                    amount += 1
                    await well.until_credits(USER, amount)
                await broken.until(lambda tried=broken: tried.tries >= 3)
                await eventually(told, all)
                assert (daemon.state, daemon.health()["ready"], daemon.health()["problem"]) == ("leading", True, None)
        (once,) = [each for each in logs if each["event"] == "publisher.broken"]
        assert (once["sink"], once["log_level"], once["exc_info"]) == ("memory-2", "error", True)


async def test_a_sink_whose_client_cancels_what_it_was_to_answer_is_tried_again(
    installation: Database, settings: Settings
) -> None:
    # The task that publishes ended, of which nobody heard: nothing was told any more, and all was said to be well.
    class Cancelling(MemorySink):
        async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
            if self.tries == 0:
                self.tries += 1
                answer: asyncio.Future[Sequence[Rejection]] = asyncio.get_running_loop().create_future()
                answer.cancel()
                return await answer
            return await super().deliver(totals)

    sink = Cancelling()
    with capture_logs() as logs:
        async with running(settings, sink):
            installation.run(ADD, [USER, 1])
            await sink.until_credits(USER, 1)
    assert [each["sink"] for each in logs if each["event"] == "publisher.broken"] == ["memory"]


async def test_a_change_arrives_in_valkey_as_get_tells_it(installation: Database, valkey: Valkey) -> None:
    settings = configured(installation, sinks=[{"name": "cache", "url": valkey.url}])
    async with redis.Redis.from_url(valkey.url) as client, client.pubsub() as subscriber:
        await subscriber.subscribe(f"credits:{USER}")
        assert (await subscriber.get_message(timeout=60) or {})["type"] == "subscribe"
        async with running(settings):
            installation.run(ADD, [USER, 5])
            message = await subscriber.get_message(ignore_subscribe_messages=True, timeout=60)
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

        tries = partial(tried, sink)
        await eventually(tries)
        daemon.stop()
        async with asyncio.timeout(60):
            await task
    assert [event["sink"] for event in logs if event["event"] == "publisher.left_behind"] == ["memory"]
    assert installation.run("SELECT cursor FROM creditsd.sinks") == [(0,)]


async def test_a_daemon_stopped_before_it_leads_ends_at_once(installation: Database, settings: Settings) -> None:
    async with running(settings, MemorySink()):
        pass


async def test_read_changes_are_purged_in_the_background(installation: Database, settings: Settings) -> None:
    timings = Timings(
        purger=change_purger.Timings(max_changes=7, pause_seconds=0.05),
        pipeline=pipeline.Timings(cursor_save_seconds=0.05),
    )
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


async def test_a_detached_partition_is_noticed(database: Database) -> None:
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
    async with running(settings, sink):
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

        await eventually(
            health,
            lambda found: (
                found
                == {"memory": "stands still: not yet; totals wait (creditsd sinks test memory)", "memory-2": "current"}
            ),
        )
        down.failure = None
        await down.until_credits(USER, 1)


async def broken(*_: object) -> None:
    raise ZeroDivisionError("a bug")


async def test_a_bug_ends_it(installation: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "_turn", broken)
    daemon = Daemon(settings, extra=[("memory", MemorySink())])
    async with asyncio.timeout(60):
        with pytest.raises(ExceptionGroup) as ended:
            await daemon.run()
    assert ended.group_contains(ZeroDivisionError)


async def test_a_bug_ends_it_though_a_task_swallows_being_cancelled(
    installation: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the pool does now and then, when a connection is free in the moment of the cancellation.
    swallowed = asyncio.Event()

    async def purge(_: ChangePurger, __: Pool) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if swallowed.is_set():
                    raise
                swallowed.set()

    monkeypatch.setattr(ChangePurger, "run", purge)
    monkeypatch.setattr(Pipeline, "_turn", broken)
    async with asyncio.timeout(60):
        with pytest.raises(ExceptionGroup):
            await Daemon(settings, extra=[("memory", MemorySink())]).run()
    assert swallowed.is_set()


# What happens to it later.


async def test_an_uninstall_pauses_it_and_an_install_resumes_it(reference_table: Database) -> None:
    settings = await installed(reference_table)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        reference_table.run(ADD, [USER, 1])
        first = await sink.until_credits(USER, 1)
        await schema.uninstall(settings, agreed=True)
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
        await sink.until(lambda: sink.newest[USER].version > before.version)
        assert said(sink.newest[USER], "credits", "cause") == (5, "repair")
        await sink.until_credits(OTHER, 0)
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
        await until(daemon, "doorbell", "polling")
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
        async with asyncio.timeout(60):
            assert (await anext(seen)).version == 0
            installation.run(ADD, [OTHER, 1])
            installation.run(ADD, [USER, 1])
            assert (await anext(seen)).credits == 1
            installation.run(ADD, [USER, 1])
            assert (await anext(seen)).credits == 2
