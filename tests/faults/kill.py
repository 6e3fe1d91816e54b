"""Kills the daemon with -9 during a write load: the short form is a test, the long one `python -m bench.kill9`."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.command import Running, running
from tests.faults.load import Load
from tests.faults.truth import Told, witnessing, wrong_at_last
from tests.servers import Valkey


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a series of kills left behind; `wrong` are those whose total never becomes the truth again."""

    kills: int
    seconds: float
    written: int
    published: int
    caught_up_seconds: float
    wrong: Mapping[str, tuple[Told, Told | None]]
    backwards: list[tuple[str, int, int]]
    agrees: bool


@dataclass(frozen=True, slots=True)
class Killings:
    """A line whose daemon dies again and again while the application writes."""

    directory: Path
    env: Mapping[str, str]
    dsn: str
    valkey: Valkey

    async def happen(
        self, *, kills: int, seconds: float, users: int, clients: int, pause_seconds: float = 0.002
    ) -> Outcome:
        """Write for so long, kill so often, start once more, and compare everything."""
        async with witnessing(self.valkey) as witness:
            begun = time.monotonic()
            async with Load(self.dsn, users, clients, pause_seconds) as load:
                for turn in range(kills):
                    await self._live_and_die(begun + seconds * (turn + 1) / kills)
            ended = time.monotonic()
            async with running(self.directory, env=self.env) as daemon:
                await daemon.until_ready()
                wrong = await wrong_at_last(self.dsn, self.valkey)
                caught_up = time.monotonic() - ended
                await daemon.end()
            return Outcome(
                kills=kills,
                seconds=ended - begun,
                written=load.written,
                published=witness.heard,
                caught_up_seconds=caught_up,
                wrong=wrong,
                backwards=witness.backwards,
                agrees=await witness.agrees(self.valkey),
            )

    async def _live_and_die(self, at: float) -> None:
        """Start the daemon, and kill it at a moment of its own: while it starts, backfills, drains or rests."""
        async with running(self.directory, env=self.env) as daemon:
            await self._some_time_alive(daemon, at)
            daemon.send(signal.SIGKILL)
            assert await daemon.wait() == -signal.SIGKILL, daemon.log()

    async def _some_time_alive(self, daemon: Running, at: float) -> None:
        dice = random.uniform(0.7, 1.0)
        await asyncio.sleep(max(0.3, (at - time.monotonic()) * dice))
        assert not daemon.ended, daemon.log()
