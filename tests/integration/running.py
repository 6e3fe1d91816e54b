"""A daemon as a task of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from creditsd.capture import change_purger
from creditsd.config.settings import Settings
from creditsd.daemon import election
from creditsd.daemon.app import Daemon
from creditsd.daemon.timings import Timings
from creditsd.schema import watch
from tests.conftest import eventually
from tests.integration.line import MemorySink

QUICK = Timings(
    purger=change_purger.Timings(pause_seconds=0.05),
    election=election.Timings(standby_seconds=0.05, mending_seconds=0.05),
    watch=watch.Timings(look_seconds=0.2, mending_seconds=0.1),
)
"""A daemon's own, but for what a test would have to wait for."""


@asynccontextmanager
async def running(settings: Settings, *sinks: MemorySink, timings: Timings = QUICK) -> AsyncIterator[Daemon]:
    """Run a daemon that publishes to these sinks (memory, memory-2 …) beside the configured ones; stop it at last."""
    names = ["memory", *(f"memory-{number}" for number in range(2, len(sinks) + 1))]
    daemon = Daemon(settings, extra=list(zip(names, sinks, strict=False)), timings=timings)
    task = asyncio.create_task(daemon.run())
    try:
        yield daemon
    finally:
        daemon.stop()
        async with asyncio.timeout(60):
            await task


async def until(daemon: Daemon, what: str, wanted: object) -> None:
    """Wait until the daemon's health says something."""

    async def found() -> object:
        return daemon.health()[what]

    await eventually(found, lambda now: now == wanted)
