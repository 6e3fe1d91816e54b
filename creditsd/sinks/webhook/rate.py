"""Spaces requests evenly, so that no second sees more of them than an endpoint allows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# A batch is no more than so many seconds of it: the cursor moves with each, and where the table is read, its totals
# are as new as that.
_BATCH_SECONDS = 1.0


class Rate:
    """Gives each request its turn; over batches too.

    The one wait in a sink: how often an endpoint may be asked is its own affair, and who delivers counts totals.
    """

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._free_at = 0.0
        self._line = asyncio.Lock()
        self.requests_in_a_batch = max(1, int(per_second * _BATCH_SECONDS))

    @asynccontextmanager
    async def in_line(self) -> AsyncIterator[None]:
        """Keep others waiting: of those who wait for a turn, the next may find that nothing is left to be sent."""
        async with self._line:
            yield

    async def free(self) -> None:
        """Wait until a request would have its turn at once."""
        await asyncio.sleep(max(0.0, self._free_at - time.monotonic()))

    async def turn(self) -> None:
        """Wait until one more request may be sent."""
        now = time.monotonic()
        begins = max(now, self._free_at)
        self._free_at = begins + self._gap
        if begins > now:
            await asyncio.sleep(begins - now)
