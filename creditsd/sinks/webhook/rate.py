"""Spaces requests evenly, so that no second sees more of them than an endpoint allows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# A batch is no more than so many seconds of it: the cursor moves with each.
_BATCH_SECONDS = 1.0


class Rate:
    """Gives each request its turn; over batches too.

    The one wait in a sink: how often an endpoint may be asked is its own affair, and who delivers counts totals.
    """

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._free_at = 0.0
        self._line = asyncio.Lock()
        self._stopped = asyncio.Event()
        self.requests_in_a_batch = max(1, int(per_second * _BATCH_SECONDS))

    @asynccontextmanager
    async def in_line(self) -> AsyncIterator[None]:
        """Keep others waiting: of those who wait for a turn, the next may find that nothing is left to be sent."""
        async with self._line:
            yield

    def stop(self) -> None:
        """Have nobody wait any more."""
        self._stopped.set()

    async def free(self) -> bool:
        """Wait until a request would have its turn at once; False where nobody is to wait for that."""
        return await self._reached(self._free_at)

    async def turn(self) -> bool:
        """Wait until one more request may be sent; False where nobody is to wait for that."""
        begins = max(time.monotonic(), self._free_at)
        self._free_at = begins + self._gap
        return await self._reached(begins)

    async def _reached(self, moment: float) -> bool:
        seconds = moment - time.monotonic()
        if seconds <= 0:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        return not self._stopped.is_set()
