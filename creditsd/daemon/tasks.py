"""Tasks that end in a bounded time, and none in silence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from creditsd.domain import cancellation

CANCEL_SECONDS = 0.2


def begun(group: asyncio.TaskGroup, work: Coroutine[Any, Any, object], name: str | None = None) -> asyncio.Task[None]:
    """Do work as one of a group, which fails where the work is cancelled and nobody has cancelled the task.

    The group itself would take that for an end in order, and go on without.
    """
    return group.create_task(_noticed(work, name or str(getattr(work, "__qualname__", "work"))), name=name)


async def ended(tasks: Sequence[asyncio.Task[None]], deadline: float = 0.0) -> None:
    """Wait for tasks until a moment of the monotonic clock, then cancel them until they have ended.

    Once is not enough: the driver waits for the server first, which may never answer, and its pool may swallow it; and
    a statement whose session is ended meanwhile raises that in its place. Whoever is cancelled here hears of it once
    they have ended: a group that is aborted would cancel them once, and wait for ever.
    """
    if tasks and (seconds := deadline - time.monotonic()) > 0:
        await asyncio.wait(tasks, timeout=seconds)
    cancelled: asyncio.CancelledError | None = None
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        try:
            await asyncio.wait(running, timeout=CANCEL_SECONDS)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


async def _noticed(work: Coroutine[Any, Any, object], name: str) -> None:
    try:
        await work
    except asyncio.CancelledError as error:
        if cancellation.by_somebody():
            raise
        raise RuntimeError(f"{name} was cancelled by what it waited for") from error
