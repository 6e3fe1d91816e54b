"""How many changes come a second."""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 0.1


class ChangeRate:
    """Counts the changes of the last moment."""

    def __init__(self) -> None:
        self._read: deque[tuple[float, int]] = deque()

    def add(self, now: float, changes: int) -> None:
        """Note how many changes a drain has read, and forget what is past the window."""
        if changes:
            self._read.append((now, changes))
        while self._read and self._read[0][0] < now - WINDOW_SECONDS:
            self._read.popleft()

    @property
    def per_second(self) -> float:
        """Changes a second, as of the last `add`."""
        return sum(changes for _, changes in self._read) / WINDOW_SECONDS

    def together(self, now: float) -> int:
        """Count the changes that came within one window until now."""
        since = now - WINDOW_SECONDS
        return sum(changes for at, changes in self._read if at > since)
