"""What the line has done since the start, in plain numbers: they cost nothing until somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True)
class Tally:
    """Counted by the leadership."""

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
