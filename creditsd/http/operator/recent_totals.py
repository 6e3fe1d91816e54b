"""Keeps the newest stored totals for the operator's page."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any

from creditsd.domain.total import Total

KEPT = 40


class RecentTotals:
    """A ring of the last totals: a viewer who looks seldom misses some, and is told how many."""

    def __init__(self) -> None:
        self._newest: deque[Total] = deque(maxlen=KEPT)
        self._wakeup = asyncio.Event()
        self.count = 0

    def lead(self, newest: int) -> None:
        """Nothing to do: what was stored before this leadership is not news."""

    def step_down(self) -> None:
        """Nothing to do: what was stored stays what it was."""

    def offer(self, totals: Sequence[Total]) -> None:
        """Take totals just stored, in order."""
        self._newest.extend(totals[-KEPT:])
        self.count += len(totals)
        self.end_waits()

    def end_waits(self) -> None:
        """End every wait that is under way."""
        self._wakeup.set()
        self._wakeup = asyncio.Event()

    def since(self, count: int) -> tuple[Sequence[Total], int]:
        """Return the totals after the first `count` ever offered, and how many of those are not kept any more."""
        news = self.count - count
        kept = list(self._newest)[-news:] if news > 0 else []
        return kept, news - len(kept)

    async def wait(self, count: int, seconds: float) -> None:
        """Return as soon as more than `count` have been offered, or at `end_waits`, or after so many seconds."""
        wakeup = self._wakeup
        if self.count == count:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await wakeup.wait()


def change(total: Total) -> dict[str, Any]:
    """Return a total as JSON with its cause and the credits before it."""
    return {
        **total.document(),
        "cause": total.cause,
        "before": None if total.previous is None else total.previous["credits"],
    }
