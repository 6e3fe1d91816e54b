"""Bounds how long each of many requests may take, with one timer for all of them."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from types import TracebackType


class TimeLimit(AbstractContextManager[None]):
    """Raises TimeoutError in a task that is within it for too long.

    `asyncio.timeout` sets a timer for each request and takes it back, a thirtieth of what a request costs. Here all
    have the same time, so they are due in the order in which they began, and one timer waits for the first of them.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[asyncio.Task[object], tuple[float, int]] = {}
        """When each task is due, by the loop's clock, and how often it was cancelled before; the first one first."""
        self._expired: set[asyncio.Task[object]] = set()
        self._waits = False

    def __enter__(self) -> None:
        """Begin the time of this task."""
        loop, task = asyncio.get_running_loop(), _this_task()
        due = loop.time() + self._seconds
        self._due[task] = (due, task.cancelling())
        if not self._waits:
            self._wait(loop, due)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it. Raises TimeoutError where it was up, unless somebody else has cancelled the task as well."""
        task = _this_task()
        _, cancelled_before = self._due.pop(task)
        if task in self._expired:
            self._expired.remove(task)
            if task.uncancel() <= cancelled_before and isinstance(error, asyncio.CancelledError):
                raise TimeoutError from error

    def _wait(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._waits = True
        loop.call_at(due, self._expire, loop)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel whoever is due, and wait for the next one; with nobody left, the next to begin sets the timer."""
        self._waits = False
        now = loop.time()
        for task, (due, _) in self._due.items():
            if due > now:
                self._wait(loop, due)
                return
            if task not in self._expired:
                self._expired.add(task)
                task.cancel()


def _this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
