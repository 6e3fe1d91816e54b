"""When whatever looks now and then may look: with `wakeup = "poll"`, when the line asks the database anyway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Polls:
    """Gathers what looks now and then around the line's own polls, so that an idle database may sleep in between.

    Where a bell wakes the line there is nothing to gather around: `pause` just waits, and nobody is told.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """The time between two polls of an idle line; 0 where a bell wakes it."""
        self.begun = 0
        """How many there have been."""
        self._listeners: list[Callable[[], None]] = []
        self._next = asyncio.Event()

    @property
    def gather(self) -> bool:
        """Whether everything is to wait for a poll."""
        return self.seconds > 0

    def tell(self, listener: Callable[[], None]) -> None:
        """Register whom to tell of each poll."""
        self._listeners.append(listener)

    def begin(self) -> None:
        """Hear that the line asks the database something now."""
        if not self.gather:
            return
        self.begun += 1
        self._next.set()
        self._next = asyncio.Event()
        for listener in self._listeners:
            listener()

    async def pause(self, seconds: float) -> None:
        """Wait for so long, and then for the next poll."""
        await asyncio.sleep(seconds)
        if self.gather:
            await self._next.wait()
