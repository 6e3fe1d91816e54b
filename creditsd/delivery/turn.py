"""Ends what a task is at from outside, at once and without ending the task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class CutShort(Exception):  # noqa: N818  reads as the state it reports
    """What was under way has been ended, and its task goes on."""


class Turn:
    """A block of one task that `cut_short` ends wherever it waits.

    A time-out would be too late for that: an answer that has come by then would let the block go on before it.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None  # the one within the block
        self._cut_short = False

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Run the block. Raises CutShort where that ended it; whoever cancels the task itself is still heard."""
        task = self._task = asyncio.current_task()
        assert task is not None
        self._cut_short, cancelled_before = False, task.cancelling()
        try:
            yield
        except asyncio.CancelledError:
            if not self._cut_short or task.cancelling() > cancelled_before + 1:
                raise
            raise CutShort from None
        finally:
            self._task = None
            if self._cut_short:
                task.uncancel()

    def cut_short(self) -> None:
        """End the block, if its task is within it: it goes on nowhere but to clean up."""
        if self._task is not None and not self._cut_short:
            self._cut_short = True
            self._task.cancel()
