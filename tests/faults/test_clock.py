"""The server's clock jumps: what time has changed by it is looked at again when it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from structlog.testing import capture_logs

from tests.conftest import Database
from tests.integration.line import USER, MemorySink, installed
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE, Postgres

HOUR = 3600
ENDS = (
    "INSERT INTO user_credits (user_id, credits, status, expires_at) "
    "SELECT lpad(to_hex(n), 32, '0')::uuid, 1, 'active', now() + interval '30 minutes' FROM generate_series(1, 60) AS n"
)


def moved(server: Postgres, seconds: int) -> list[Any]:
    """Move the clock, and write something, so that somebody looks at it."""
    server.set_clock(seconds)
    database = Database(server, "postgres", server.dsn())
    return database.run("UPDATE user_credits SET status = status; SELECT clock_timestamp()")


async def test_a_clock_that_jumps_ahead_and_back_leaves_nobody_expired(own_postgres: Callable[..., Postgres]) -> None:
    server = await asyncio.to_thread(own_postgres, movable_clock=True)
    database = Database(server, "postgres", server.dsn())
    database.run(REFERENCE_TABLE)
    database.run(ENDS)
    settings = await installed(database)
    sink = MemorySink()

    def all_are(status: str) -> Callable[[], bool]:
        return lambda: [total.membership_status for total in sink.newest.values()] == [status] * 60

    with capture_logs() as logs:
        async with running(settings, sink) as daemon:
            await sink.until(all_are("active"))
            await asyncio.to_thread(moved, server, HOUR)
            await sink.until(all_are("expired"))
            await until(daemon, "doorbell", "asleep")
            await asyncio.to_thread(moved, server, 0)
            await sink.until(all_are("active"))
            await until(daemon, "state", "leading")
    causes = [event["cause"] for event in logs if event["event"] == "balances.resync_begun"]
    assert causes == ["first start", "clock went back"]


async def test_a_clock_that_went_back_while_no_daemon_ran_is_noticed_by_the_next(
    own_postgres: Callable[..., Postgres],
) -> None:
    server = await asyncio.to_thread(own_postgres, movable_clock=True)
    database = Database(server, "postgres", server.dsn())
    database.run(REFERENCE_TABLE)
    database.run(ENDS)
    settings = await installed(database)
    await asyncio.to_thread(server.set_clock, HOUR)
    sink = MemorySink()
    async with running(settings, sink):
        await sink.until(lambda: len(sink.newest) == 60)
    assert sink.newest[USER].membership_status == "expired"
    await asyncio.to_thread(server.set_clock, 0)
    async with running(settings, sink):
        await sink.until(lambda: all(total.membership_status == "active" for total in sink.newest.values()))
