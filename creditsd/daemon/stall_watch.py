"""Notices that this process stood still: stopped, on a machine that was paused, or without a turn at the processor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK_SECONDS = 1.0


class StallWatch:
    """Looks how late a timer is. That comes before whatever waits for an answer goes on."""

    def __init__(self, longest_seconds: float) -> None:
        self._longest_seconds = longest_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None  # when to look next, on the monotonic clock

    @property
    def stalled(self) -> bool:
        """Whether we stand still for too long as it is: what runs at this moment began before that."""
        return self._due is not None and time.monotonic() - self._due > self._longest_seconds

    @contextmanager
    def watching(self, stalled: Callable[[float], None]) -> Iterator[None]:
        """Call `stalled`, once and with the seconds, after a standstill that took too long within the block."""
        self._due = time.monotonic()
        self._look(stalled)
        try:
            yield
        finally:
            self._due = None
            if self._timer is not None:
                self._timer.cancel()

    def _look(self, stalled: Callable[[float], None]) -> None:
        now = time.monotonic()
        if self._due is not None and self.stalled:
            stalled(now - self._due)
        else:
            self._due = now + LOOK_SECONDS
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look, stalled)
