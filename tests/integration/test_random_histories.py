"""Whatever is done to the table, in whatever order: it is said or right, and right after one install.

CREDITSD_TEST_HISTORIES says how many are drawn for each version of PostgreSQL, CREDITSD_TEST_SEED the first seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from creditsd.admin.verify import Verifier
from creditsd.config.settings import Settings
from creditsd.daemon.app import Daemon
from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.schema import install as schema
from tests.conftest import Database, settled
from tests.integration.line import MemorySink, installed
from tests.integration.running import QUICK
from tests.integration.table_history import TableHistory

HISTORIES = int(os.environ.get("CREDITSD_TEST_HISTORIES", "3"))
SEED = int(os.environ.get("CREDITSD_TEST_SEED", "1"))
STEPS = 10

# The daemon looks 150 times as often as it does by default, so this is a generous minute even on a slow machine.
PATIENCE_SECONDS = 20.0


class Watched:
    """A daemon that is started and stopped, and what its sink was told."""

    def __init__(self, settings: Settings, history: TableHistory) -> None:
        self.settings = settings
        self.history = history
        self.sink = MemorySink()
        self._daemon: Daemon | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it; it may refuse to, which is an answer as well."""
        await self.stop()
        self._daemon = Daemon(self.settings, extra=[("memory", self.sink)], timings=QUICK)
        self._running = asyncio.create_task(self._daemon.run())

    async def stop(self) -> None:
        if self._daemon is not None and self._running is not None:
            self._daemon.stop()
            with contextlib.suppress(SchemaError):
                async with asyncio.timeout(60):
                    await self._running
            self._daemon = None

    async def seen(self) -> tuple[bool, object, dict[str, int]]:
        """Whether it is ready, what it says must be mended, and where what was told differs from the truth."""
        if self._daemon is None or self._running is None or self._running.done():
            return False, self._end(), {}
        health = self._daemon.health()
        truth = await asyncio.to_thread(self.history.truth)
        if truth is None:
            return bool(health["ready"]), health["problem"], {"everyone": 0}
        told = {name: int(total.credits) for name, total in self.sink.newest.items() if total.credits}
        wrong = {name: told.get(name, 0) for name in {*truth, *told} if told.get(name) != truth.get(name)}
        return bool(health["ready"]), health["problem"], wrong

    def _end(self) -> str:
        """Say why it does not run. Raises what is no answer but a bug."""
        if self._running is None or (error := self._running.exception()) is None:
            return "it is down"
        if not isinstance(error, SchemaError):
            raise error
        return str(error)

    async def said_or_right(self) -> None:
        """Fail where it is ready and wrong, and stays so."""
        found = await settled(self.seen, lambda now: bool(now[1]) or (now[0] and now[2] == {}), PATIENCE_SECONDS)
        assert found[1] or (found[0] and found[2] == {}), (found, self.history.log)

    async def right(self) -> None:
        """Fail where it does not become ready and right."""
        found = await settled(self.seen, lambda now: now[0] and now[2] == {}, PATIENCE_SECONDS)
        assert found[0], (found, self.history.log)
        assert found[2] == {}, (found, self.history.log)

    async def install(self) -> None:
        """Install, as often as it takes to find the table free; then all must be right."""
        if self.history.away:
            with pytest.raises(SchemaError):
                await schema.install(self.settings)
            return
        await schema.install(self.settings)
        self.history.log.append("installed")
        if self._running is None or self._running.done():
            await self.start()
        await self.right()
        assert (await schema.install(self.settings)).done == [], self.history.log


@pytest.mark.parametrize("seed", range(SEED, SEED + HISTORIES))
async def test_whatever_is_done_to_the_table_it_is_said_or_right(database: Database, seed: int) -> None:
    history = TableHistory(database, seed)
    settings = await installed(database, history={"days": 1})
    watched = Watched(settings, history)
    await watched.start()
    try:
        await watched.right()
        for _ in range(STEPS):
            draw = history.dice.random()
            if draw < 0.15:
                history.log.append("restarted")
                await watched.stop()
                await history.under_writes(history.step, writes=2)
                await watched.start()
            elif draw < 0.35:
                await watched.install()
            else:
                await history.under_writes(history.step, writes=3)
            await watched.said_or_right()
        history.come_back()
        await watched.install()
        async with Verifier.opened(settings, []) as verifier:
            verdict = await verifier.run(
                repair=False, progress=lambda *_: None, report=lambda drift: pytest.fail(f"{drift}")
            )
        assert verdict.clean
    except DatabaseUnavailable as error:
        pytest.fail(f"{error}: {history.log}")
    finally:
        await watched.stop()
