"""Who has cancelled: somebody the task, or a library what it waits for itself, of which nobody would hear."""

from __future__ import annotations

import asyncio


def by_somebody() -> bool:
    """Whether the current task was told to end; a CancelledError without that comes from what it waits for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
