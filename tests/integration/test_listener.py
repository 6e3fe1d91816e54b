"""A bell that does not come through is noticed, told, and polled instead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from creditsd.capture.doorbell import Doorbell, Timings
from creditsd.capture.listener import Listener
from creditsd.capture.sleep_lock import SleepLock
from creditsd.config.settings import Settings
from creditsd.postgres.connections import connected
from tests.conftest import Database, eventually
from tests.integration.line import USER, Line
from tests.integration.play import ADD
from tests.proxy import Proxy


@asynccontextmanager
async def resting(
    settings: Settings, listen_dsn: str, timings: Timings, *, listens: bool = True
) -> AsyncIterator[tuple[Doorbell, Line, dict[str, Any]]]:
    """The doorbell and a reader that drains after each rest, as the daemon does; what is stored, kept up to date."""
    async with (
        Line.settled(settings) as line,
        connected(listen_dsn, purpose="doorbell") as listener,
        connected(settings.dsn, purpose="sleep") as keeper,
    ):
        ear, lock = Listener(listener), SleepLock(keeper)
        bell = Doorbell(ear, lock, poll_seconds=0.02, busy_poll_seconds=0.005, timings=timings)
        if listens:
            await ear.listen()
        stored: dict[str, Any] = {}

        async def lead() -> None:
            while True:
                if bell.heartbeat_due:
                    await bell.heartbeat(line.connection)
                drained = await line.change_reader.drain(100)
                stored.update({total.user_id: total.credits for total in drained.totals})
                await bell.rest(read=drained.page["changes"], worked_seconds=0, due_seconds=None)

        tasks = [asyncio.create_task(each) for each in (*bell.beside(), lead())]
        try:
            yield bell, line, stored
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_listener_that_hears_nothing_is_told_of_and_polled_instead(
    installation: Database, settings: Settings
) -> None:
    # As behind a transaction pooler: LISTEN succeeds, on somebody else's connection.
    with capture_logs() as logs:
        async with resting(settings, settings.dsn, Timings(proof_seconds=0.05), listens=False) as (bell, _, stored):

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
    installation: Database, settings: Settings
) -> None:
    info = psycopg.conninfo.conninfo_to_dict(settings.dsn)
    async with Proxy(str(info["host"]), int(info["port"] or 5432)) as proxy:
        through = make_conninfo(settings.dsn, host=proxy.host, port=proxy.port)
        with capture_logs() as logs:
            async with resting(settings, through, Timings(heartbeat_seconds=0.4, proof_seconds=0.2)) as (
                bell,
                _,
                stored,
            ):

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
