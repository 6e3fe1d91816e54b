"""Reads and streams of a real daemon: what is committed arrives, for the right user, whoever leads."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from creditsd import __version__
from creditsd.config.settings import Settings
from creditsd.daemon.app import Daemon
from creditsd.domain.errors import SinkUnavailable
from creditsd.http import reads, server
from creditsd.http.database_source import DatabaseSource
from creditsd.metrics import collectors
from tests.conftest import SERVERS, Database, eventually
from tests.http.asking import KEY, asking, bearer, counted, http, token
from tests.http.test_metrics import scraped
from tests.integration.line import OTHER, USER, MemorySink, configured, user
from tests.integration.running import QUICK, running, until

pytestmark = pytest.mark.parametrize("postgres_server", SERVERS[:1], indirect=True)

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"


@pytest.fixture
def settings(installation: Database) -> Settings:
    return configured(installation, http=http(), poll_seconds=0.05)


def port(settings: Settings) -> int:
    assert settings.http.address is not None
    return settings.http.address[1]


async def test_what_is_committed_is_read_and_streamed_by_its_user_alone(
    installation: Database, settings: Settings
) -> None:
    installation.run(ADD, [USER, 5])
    async with running(settings) as daemon, asking(port(settings)) as client:
        await until(daemon, "state", "leading")
        read = await client.read(USER.upper(), KEY)
        assert (read.status, read.body["success"], read.body["data"]["credits"]) == (200, True, 5)
        nobody = await client.read(user(77), KEY)
        assert (nobody.status, nobody.body["data"]["credits"]) == (200, 0)
        assert nobody.body["data"]["membershipStatus"] == "none"
        async with (
            client.stream("/v1/me/credits/stream", token(USER)) as mine,
            client.stream(f"/v1/users/{OTHER}/credits/stream", KEY) as others,
        ):
            assert (await mine.total()) == read.body["data"]
            assert (await others.total())["version"] == 0
            installation.run(ADD, [OTHER, 1])
            told = await others.total()
            assert (told["user_id"], told["credits"]) == (OTHER, 1)
            installation.run(ADD, [USER, 1])
            told = await mine.total()
            assert (told["user_id"], told["credits"]) == (USER, 6)
            assert (await client.read(USER, token(USER))).body["data"] == told
            assert OTHER.encode() not in mine.raw
            daemon.stop()
            assert await mine.farewell() == "shutdown"


async def test_a_read_by_version_waits_here_and_on_a_daemon_that_stands_by(
    installation: Database, settings: Settings
) -> None:
    behind = settings.model_copy(update={"http": configured(installation, http=http()).http})
    patient = replace(QUICK, http=server.Timings(reads=reads.Timings(wait_seconds=3600)))
    installation.run(ADD, [USER, 5])
    async with running(settings, timings=patient) as leader, asking(port(settings)) as ahead:
        await until(leader, "state", "leading")
        async with running(behind, timings=patient) as standby, asking(port(behind)) as beside:
            await until(standby, "state", "standby")
            before = (await ahead.read(USER, KEY)).body["data"]["version"]
            paths = [f"/v1/me/credits?min_version={before + 1}", f"/v1/users/{USER}/credits?min_version={before + 1}"]
            waiting = [
                asyncio.create_task(client.get(path, **bearer(credential)))
                for client in (ahead, beside)
                for path, credential in zip(paths, (token(USER), KEY), strict=True)
            ]
            for each in (leader, standby):
                await eventually(partial(listeners, each), lambda found: found == 2)
            installation.run(ADD, [USER, 1])
            for answer in await asyncio.gather(*waiting):
                assert (answer.status, answer.body["data"]["credits"]) == (200, 6)
                assert answer.body["data"]["version"] > before


async def listeners(daemon: Daemon) -> int:
    return counted(daemon._surface._http, "streams_open")


async def test_a_change_between_subscribing_and_reading_is_not_missed(
    installation: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = MemorySink()
    reading, readable = asyncio.Event(), asyncio.Event()
    read = DatabaseSource.read

    async def slowly(source: DatabaseSource, user_id: str) -> Any:
        found = await read(source, user_id)
        reading.set()
        await readable.wait()
        return found

    monkeypatch.setattr(DatabaseSource, "read", slowly)
    async with running(settings, sink) as daemon, asking(port(settings)) as client:
        await until(daemon, "state", "leading")

        async def versions() -> list[int]:
            async with client.stream("/v1/me/credits/stream", token(USER)) as stream:
                return await stream.until(sink.newest[USER].version)

        stream = asyncio.create_task(versions())
        await reading.wait()
        installation.run(ADD, [USER, 1])
        await sink.until_credits(USER, 1)
        readable.set()
        async with asyncio.timeout(60):
            assert await stream == [sink.newest[USER].version]


async def test_a_daemon_that_stands_by_streams_what_the_other_stores(
    installation: Database, settings: Settings
) -> None:
    behind = settings.model_copy(update={"http": configured(installation, http=http()).http})
    sink = MemorySink()
    async with running(settings, sink) as leader:
        await until(leader, "state", "leading")
        async with running(behind) as standby, asking(port(behind)) as client:
            await until(standby, "state", "standby")
            async with client.stream("/v1/me/credits/stream", token(USER)) as stream:
                assert (await stream.total())["credits"] == 0
                for amount in (1, 2, 3):
                    installation.run(ADD, [USER, 1])
                    assert (await stream.total())["credits"] == amount
                # It takes over, and hands over itself.
                leader.stop()
                await until(standby, "state", "leading")
                installation.run(ADD, [USER, 1])
                assert (await stream.total())["credits"] == 4
                await eventually(lambda: _listening(standby), lambda found: found)


async def _listening(daemon: Daemon) -> bool:
    return daemon._surface.source._through


async def test_every_version_comes_in_order_while_changes_pour_in(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    async with running(settings, sink) as daemon, asking(port(settings)) as client:
        await until(daemon, "state", "leading")
        async with client.stream("/v1/me/credits/stream", token(USER)) as stream, installation.connect() as application:
            for _ in range(60):
                await application.execute(ADD, [USER, 1])
            await sink.until_credits(USER, 60)
            versions = await stream.until(sink.newest[USER].version)
            assert versions == sorted(set(versions))
            assert versions[-1] == sink.newest[USER].version


async def test_ids_that_cannot_be_the_columns_are_a_clear_line_and_never_a_bug(
    installation: Database, settings: Settings
) -> None:
    async with running(settings) as daemon, asking(port(settings)) as client:
        await until(daemon, "state", "leading")
        for bad in ("1", "x%27y", "a%2Fb", "%22", "%00", "%FF", "%F0%9F%92%B6", "%7B" + USER + "%7D", "1" * 4000):
            answer = await client.read(bad, KEY)
            assert answer.status == 400, bad
            assert "is not a user's id here: the table's are uuid" in answer.error
            assert (await client.read(bad, token(USER))).status == 403
        assert (await client.read("x" * 10_240, KEY)).status == 431


async def test_the_database_away_is_said_and_streams_stay(installation: Database, settings: Settings) -> None:
    async with running(settings) as daemon, asking(port(settings)) as client:
        await until(daemon, "state", "leading")
        async with client.stream("/v1/me/credits/stream", token(USER)) as stream:
            assert (await stream.total())["credits"] == 0
            for number in (1, 2):
                installation.run(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name LIKE 'creditsd%%' AND datname = current_database()"
                )
                installation.run(ADD, [USER, 1])
                assert (await stream.total())["credits"] == number


async def test_what_the_line_does_and_what_waits_is_told_to_prometheus(
    installation: Database, settings: Settings
) -> None:
    always = replace(QUICK, metrics=collectors.Timings(look_seconds=0.0))
    well, ill = MemorySink(), MemorySink()
    ill.failure = SinkUnavailable("not today")
    standby = configured(installation, http=http())
    async with running(settings, well, ill, timings=always) as daemon, asking(port(settings)) as client:
        await until(daemon, "state", "leading")
        for number in range(3):
            installation.run(ADD, [user(number), 1])
        await well.until(lambda: len(well.newest) == 3)
        installation.run(
            "INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, next_at, last_error) "
            "VALUES ('memory', %s, 1, 1, NULL, 'x'), ('memory', %s, 1, 1, 'infinity', 'x')",
            [user(1), user(2)],
        )

        async def scrape() -> dict[tuple[str, ...], float]:
            return await scraped(client)

        figures = await eventually(scrape, lambda told: told["creditsd_sink_up", "memory-2"] == 0)
        assert figures["creditsd_leader",] == 1
        assert figures["creditsd_state", "leading"] == 1
        assert sum(value for name, value in figures.items() if name[0] == "creditsd_doorbell_state") == 1
        assert figures["creditsd_changes_read_total",] == 3
        assert figures["creditsd_users_recomputed_total",] == 3
        assert figures["creditsd_totals_stored_total", "change"] == 3
        assert 1 <= figures["creditsd_drain_seconds_count",] <= 3
        assert figures["creditsd_drain_seconds_bucket", "+Inf"] == figures["creditsd_drain_seconds_count",]
        assert figures["creditsd_sink_delivered_total", "memory"] == 3
        assert figures["creditsd_sink_up", "memory"] == 1
        assert (figures["creditsd_sink_queue", "memory"], figures["creditsd_sink_lag_seconds", "memory"]) == (0, 0)
        assert figures["creditsd_sink_queue", "memory-2"] == 3
        assert 0 < figures["creditsd_sink_lag_seconds", "memory-2"] < 600
        assert figures["creditsd_deliveries_refused", "memory"] == figures["creditsd_deliveries_dead", "memory"] == 1
        async with running(standby) as second, asking(port(standby)) as other:
            await until(second, "state", "standby")
            figures = await scraped(other)
            assert (figures["creditsd_leader",], figures["creditsd_state", "standby"]) == (0, 1)
            assert ("creditsd_sink_queue", "memory") not in figures


async def test_how_far_behind_the_line_is_and_how_long_a_sink_took_are_exported(
    installation: Database, settings: Settings
) -> None:
    always, sink = replace(QUICK, metrics=collectors.Timings(look_seconds=0.0)), MemorySink()
    async with running(settings, sink, timings=always) as daemon, asking(port(settings)) as client:
        await until(daemon, "state", "leading")

        async def behind() -> tuple[float, bool]:
            figures = await scraped(client)
            return figures["creditsd_changes_behind",], figures["creditsd_oldest_change_seconds",] > 0

        await eventually(behind, lambda found: found == (0, False))
        async with installation.connect(autocommit=False) as blocker:
            await blocker.execute("LOCK TABLE creditsd.balances IN EXCLUSIVE MODE")
            installation.run(ADD, [USER, 5])
            await eventually(behind, lambda found: found == (1, True))
        await sink.until_credits(USER, 5)
        await eventually(behind, lambda found: found == (0, False))
        figures = await scraped(client)
        assert figures["creditsd_publish_seconds_count", "memory"] >= 1
        assert figures["creditsd_pool_connections", "reader"] == 1
        assert figures["creditsd_pool_waiting", "publisher"] == 0
        assert 0 <= figures["creditsd_notification_queue_usage",] < 1
        assert figures["creditsd_build_info", __version__] == 1


async def test_a_scrape_does_not_ask_the_database_each_time(installation: Database, settings: Settings) -> None:
    async with running(settings, MemorySink()) as daemon, asking(port(settings)) as client:
        await until(daemon, "state", "leading")
        await asyncio.gather(*(scraped(client) for _ in range(50)))
        reads = installation.run(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'creditsd reader' "
            "AND datname = current_database()"
        )
        assert reads == [(1,)]
