"""Ending tasks in a bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

CANCEL_SECONDS = 0.2


async def ended(tasks: Sequence[asyncio.Task[None]], deadline: float = 0.0) -> None:
    """Wait for tasks until a moment of the monotonic clock, then cancel them until they have ended.

    Once is not enough: the driver waits for the server first, which may never answer, and its pool may swallow it.
    """
    if tasks and (seconds := deadline - time.monotonic()) > 0:
        await asyncio.wait(tasks, timeout=seconds)
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_SECONDS)
