"""How many changes come a second, and how long the daemon rests between two looks at them while it is awake."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timings:
    """When to rest how long.

    Awake, for each second of work `rest_per_work` seconds of rest: the daemon shares the machine with the writers it
    must not slow. Below `full_rest_per_second` changes a second that machine has time to spare, and the rest is shorter
    in proportion.
    """

    window_seconds: float = 0.1
    rest_per_work: float = 5.0
    full_rest_per_second: float = 4000
    longest_rest_seconds: float = 0.25


class ChangeRate:
    """Counts the changes of the last moment."""

    def __init__(self, *, shortest_rest_seconds: float, timings: Timings) -> None:
        self._shortest_rest_seconds = shortest_rest_seconds
        self._timings = timings
        self._read: deque[tuple[float, int]] = deque()

    def add(self, now: float, changes: int) -> None:
        """Note how many changes a drain has read, and forget what is past the window."""
        if changes:
            self._read.append((now, changes))
        while self._read and self._read[0][0] < now - self._timings.window_seconds:
            self._read.popleft()

    @property
    def per_second(self) -> float:
        """Changes a second, as of the last `add`."""
        return sum(changes for _, changes in self._read) / self._timings.window_seconds

    def together(self, now: float) -> int:
        """Count the changes that came within one window until now."""
        since = now - self._timings.window_seconds
        return sum(changes for at, changes in self._read if at > since)

    def rest_seconds(self, worked_seconds: float) -> float:
        """Say how long to rest after so much work."""
        timings = self._timings
        share = min(1.0, self.per_second / timings.full_rest_per_second)
        rest = worked_seconds * timings.rest_per_work * share
        return min(max(self._shortest_rest_seconds, rest), timings.longest_rest_seconds)
