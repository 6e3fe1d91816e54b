"""Whatever strangers say on our channels: a plain wake at most; no resync, and nothing in the log."""

from __future__ import annotations

import tracemalloc

import pytest
from structlog.testing import capture_logs

from creditsd.config.settings import Settings
from creditsd.daemon.vacancy import Vacancy
from creditsd.postgres.connections import connected, rows
from tests.conftest import SERVERS, Database, eventually
from tests.integration.line import OTHER, USER, MemorySink
from tests.integration.running import running, until

pytestmark = pytest.mark.parametrize("postgres_server", SERVERS[:1], indirect=True)

LONGEST = 7999  # bytes of a payload
PAYLOADS = [
    "",
    " ",
    "sink",
    "sinks ",
    "SINKS",
    "proof ",
    "proof 0123456789abcdef",
    "{}",
    "resync",
    "'; DROP TABLE x; --",
]
PAYLOADS += [
    "x" * LONGEST,
    "\u20ac" * (LONGEST // 3),
    "a\r\nb\t",
    "\x01\x1b[31m\x7f",
    "\u202e\U0001f600",
    "\ufeff",
    "%s",
]
ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')"
RING_MUCH = """
SELECT pg_notify('creditsd_lead', n || repeat('x', 7000)) FROM generate_series(1, 1000) AS n
"""
VERSION = "SELECT version FROM creditsd.balances WHERE user_id = %s"


async def test_strangers_on_our_channels_wake_the_daemon_and_no_more(
    installation: Database, settings: Settings
) -> None:
    sink = MemorySink()
    installation.run(ADD, [USER])
    async with running(settings, sink) as daemon:
        await until(daemon, "state", "leading")
        await until(daemon, "doorbell", "asleep")
        ((before,),) = installation.run(VERSION, [USER])
        with capture_logs() as logs:
            for channel in ("creditsd", "creditsd_lead", "creditsd_doctor", "Creditsd"):
                for payload in PAYLOADS:
                    installation.run("SELECT pg_notify(%s, %s)", [channel, payload])
            installation.run(ADD, [OTHER])

            async def told() -> object:
                return sink.newest.get(OTHER)

            assert await eventually(told)
            await until(daemon, "doorbell", "asleep")
        assert daemon.health()["state"] == "leading"
    assert installation.run(VERSION, [USER]) == [(before,)]
    assert [each for each in logs if each["log_level"] != "debug"] == []
    assert [each.user_id for each in sink.totals] == [USER, OTHER]


async def test_what_strangers_say_to_a_standby_is_not_kept(database: Database) -> None:
    # Each ring was kept for as long as another daemon led.
    async with connected(database.dsn, purpose="test") as session:
        vacancy = Vacancy(session)
        assert await vacancy.listen()
        tracemalloc.start()
        try:
            for _ in range(5):
                database.run(RING_MUCH)
                await rows(session, "SELECT 1")
                assert not await vacancy.listen()
            kept, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most > 1_000_000, "they were heard"
        assert kept < 1_000_000
