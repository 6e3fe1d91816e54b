"""What has happened, in plain numbers, which cost nothing until somebody asks: over HTTP, and on the line."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True)
class HttpCounters:
    """What has happened over HTTP since the start; `open` is now. Labels are of our own making, so there are few."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By the pattern of the path, and the status."""
    auth_failures: Counter[str] = field(default_factory=Counter)
    limited: Counter[str] = field(default_factory=Counter)
    opened: int = 0
    closed: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    heartbeats: int = 0
    open: int = 0
    connections: int = 0
    connections_refused: int = 0


@dataclass(slots=True)
class LineCounters:
    """What the line has done since the start; counted by the pipeline."""

    changes: int = 0
    users: int = 0
    totals: Counter[str] = field(default_factory=Counter)
    """Stored, by cause."""
    drains: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_SECONDS) + 1))
    """How many took up to each bound, and the last longer than all; those that found nothing are not counted."""
    drain_seconds: float = 0.0

    def drained(self, *, changes: int, users: int, seconds: float) -> None:
        """Count a drain."""
        self.changes += changes
        self.users += users
        if changes:
            self.drains[bisect_left(BOUNDS_SECONDS, seconds)] += 1
            self.drain_seconds += seconds
