"""Writes the log from a thread of its own: a pipe that nobody reads, or a stopped terminal, must not stop us."""

from __future__ import annotations

import contextlib
import io
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator

KEPT_LINES = 10_000
FLUSH_SECONDS = 1.0


class LogWriter:
    """Standard error, written to at once; within `threaded` in the background, where what is too much is counted."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] | None = None
        self._dropped = 0
        self._stuck = False

    def write(self, text: str) -> int:
        """Write a line, or hand it over; never waits within `threaded`."""
        if self._lines is None:
            return 0 if self._stuck else sys.stderr.write(text)
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self._dropped += 1
        return len(text)

    def flush(self) -> None:
        """Flush what was written at once."""
        if self._lines is None and not self._stuck:
            sys.stderr.flush()

    def isatty(self) -> bool:
        """Whether a person reads."""
        return sys.stderr.isatty()

    @contextlib.contextmanager
    def threaded(self, dropped: Callable[[int], None], *, kept_lines: int = KEPT_LINES) -> Iterator[None]:
        """Write in the background until the end of the block, and hand over how many lines had to be dropped.

        At the end waits for what is written, a second at most; from then on a reader that does not read is told
        nothing, so that the process can end.
        """
        lines = self._lines = queue.Queue(kept_lines)
        thread = threading.Thread(target=self._write_all, args=(lines, dropped), name="log", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._lines = None
            with contextlib.suppress(queue.Full):
                lines.put(None, timeout=FLUSH_SECONDS)
            thread.join(FLUSH_SECONDS)
            self._stuck = thread.is_alive()

    def _write_all(self, lines: queue.Queue[str | None], dropped: Callable[[int], None]) -> None:
        told = self._dropped
        for line in iter(lines.get, None):
            with contextlib.suppress(OSError, ValueError):  # whoever read has gone
                _write(line)
            if (count := self._dropped - told) and lines.empty():
                told += count  # and not a reset of theirs: they may be counting meanwhile
                dropped(count)


def _write(line: str) -> None:
    """Write to whatever standard error is now: a progress bar takes it over while it is shown.

    To a real one without its buffer, whose lock would be held for ever where this write never returns.
    """
    stream = sys.stderr
    if type(stream) is not io.TextIOWrapper:
        stream.write(line)
        stream.flush()
        return
    data = line.encode(stream.encoding or "utf-8", "backslashreplace")
    while data:
        data = data[os.write(stream.fileno(), data) :]
