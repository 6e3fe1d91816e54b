"""Names whoever holds a lock that we need: the line would stand still and nobody would know why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import structlog

from creditsd.capture.lock_holders import Holder, blockers, strangers
from creditsd.daemon.state import DaemonState
from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.postgres.connections import Pool, borrowed

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Timings:
    """How often we look, and at rest, and after how long a statement is worth asking what it waits for."""

    look_seconds: float = 1.0
    asleep_seconds: float = 10.0
    patience_seconds: float = 2.0


class LockWatch:
    """The job of one leadership; `pid` is its session's process, `doorbell` tells the state of its doorbell.

    While the daemon sleeps it holds K, and waits for nobody: then it is the writers alone whom somebody may keep
    waiting, and we look seldom. Where the daemon polls, nothing is asked between two polls.
    """

    def __init__(self, pid: int, state: DaemonState, doorbell: Callable[[], str], timings: Timings) -> None:
        self._pid = pid
        self._state = state
        self._doorbell = doorbell
        self._timings = timings
        self._seen: set[Holder] = set()
        self._looked_at = 0.0

    async def run(self, pool: Pool) -> NoReturn:
        """Look now and then, until cancelled; whoever is found twice is named, by the log and by /readyz."""
        try:
            while True:
                await asyncio.sleep(self._timings.look_seconds)
                try:
                    found = await self._look(pool)
                except (DatabaseUnavailable, SchemaError) as error:
                    log.debug("locks.look_interrupted", reason=str(error))
                    continue
                twice, self._seen = found & self._seen, found
                self._state.note("locks", "; ".join(sorted(f"{each}: end it" for each in twice)))
        finally:
            self._state.note("locks", "")

    async def _look(self, pool: Pool) -> set[Holder]:
        is_stuck = self._state.busy_seconds > self._timings.patience_seconds
        if not is_stuck and not self._due():
            return set()
        self._looked_at = time.monotonic()
        async with borrowed(pool) as connection:
            found = await strangers(connection)
            return found | await blockers(connection, self._pid) if is_stuck else found

    def _due(self) -> bool:
        match self._doorbell():
            case "asking" | "awake":
                return True
            case "asleep":
                return bool(self._seen) or time.monotonic() - self._looked_at >= self._timings.asleep_seconds
            case _:
                return False
