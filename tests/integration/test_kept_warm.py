"""With `keep_warm_seconds` the daemon looks again and again after a change, and sleeps and wakes as ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from creditsd.capture.doorbell import Doorbell, Timings
from creditsd.config.settings import Settings
from creditsd.postgres.connections import connected
from tests.beside import beside
from tests.conftest import Database
from tests.integration.line import K_HELD, USER, MemorySink
from tests.integration.play import ADD
from tests.integration.running import running, until

UNDISTURBED = Timings(heartbeat_seconds=3600, proof_seconds=3600)
LONG_SECONDS = 0.5


@asynccontextmanager
async def asleep(settings: Settings) -> AsyncIterator[Doorbell]:
    """A doorbell that sleeps, with nothing to look at."""
    async with (
        connected(settings.dsn, purpose="leader") as leader,
        Doorbell.opened(settings, told=lambda _: None, timings=UNDISTURBED) as bell,
        AsyncExitStack() as ends,
    ):
        for each in bell.beside():
            await ends.enter_async_context(beside(each))
        await bell.heartbeat(leader)
        while bell.state != "asleep":
            await bell.rest(read=0, worked_seconds=0, due_seconds=None)
        yield bell


async def rested(bell: Doorbell, *, read: int = 0) -> asyncio.Task[None] | None:
    """Rest once; return the rest itself where it goes on for far longer than between two looks."""
    resting = asyncio.create_task(bell.rest(read=read, worked_seconds=0, due_seconds=None))
    await asyncio.wait([resting], timeout=LONG_SECONDS)
    return None if resting.done() else resting


async def test_after_a_change_it_looks_again_and_again_with_nobody_ringing(
    installation: Database, settings: Settings
) -> None:
    async with asleep(settings.model_copy(update={"keep_warm_seconds": 60.0})) as bell:
        for read in (1, *[0] * 20):
            await bell.rest(read=read, worked_seconds=0, due_seconds=None)
            assert bell.state == "asleep"
            assert installation.run(K_HELD) == [("ExclusiveLock", True)]  # whoever writes rings all the while


async def test_it_rests_again_when_the_time_is_over(installation: Database, settings: Settings) -> None:
    async with asleep(settings.model_copy(update={"keep_warm_seconds": 0.1})) as bell:
        await bell.rest(read=1, worked_seconds=0, due_seconds=None)
        while (resting := await rested(bell)) is None:
            pass
        installation.run(ADD, [USER, 1])
        await resting


async def test_nobody_is_kept_warm_who_does_not_ask_for_it(installation: Database, settings: Settings) -> None:
    async with asleep(settings) as bell:
        resting = await rested(bell, read=1)
        assert resting is not None
        installation.run(ADD, [USER, 1])
        await resting


async def test_a_daemon_that_is_kept_warm_tells_every_change(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    async with running(settings.model_copy(update={"keep_warm_seconds": 60}), sink) as daemon:
        for number in range(1, 101):
            installation.run(ADD, [USER, 1])
            await sink.until_credits(USER, number)
        await until(daemon, "doorbell", "asleep")
