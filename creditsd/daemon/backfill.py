"""How far recomputing everyone is, for the log and for a progress bar."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()

Progress = Callable[[int, int, bool], None]  # users done, users in all (about), whether it is over


class Backfill:
    """The resync that is under way, if one is: its cause, and how many users it has done since this daemon leads."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._in_all: int | None = None
        self.cause: str | None = None
        self.users = 0

    def begin(self, cause: str) -> None:
        """Begin to count, for a cause."""
        self.cause, self.users, self._in_all = cause, 0, None
        log.info("balances.resync_begun", cause=cause)

    def end(self) -> None:
        """Say that everyone has been recomputed, where that was under way."""
        if self.cause is not None:
            log.info("balances.resync_done", users=self.users)
        self.cause = None

    async def add(self, users: int, *, over: bool, count: Callable[[], Awaitable[int]]) -> None:
        """Count a page of users, and show it; `count` tells how many there are in all, about."""
        self.users += users
        if self._progress is None:
            return
        if self._in_all is None:
            self._in_all = await count()
        self._progress(self.users, self._in_all, over)
