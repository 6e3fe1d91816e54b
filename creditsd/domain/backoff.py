"""How long to wait before the next try: longer each time, and never all at once."""

from __future__ import annotations

import random
from dataclasses import dataclass

_LONGEST_POWER = 100  # a growth to that power is far beyond any longest pause, and still a float


@dataclass(slots=True)
class Backoff:
    """Pauses that grow, each between half and all of its length, so that many do not return at once."""

    first_seconds: float = 0.2
    longest_seconds: float = 30.0
    growth: float = 2.0
    tries: int = 0

    def next(self, at_least: float | None = None) -> float:
        """Return the seconds until the next try."""
        longest = min(self.longest_seconds, self.first_seconds * self.growth**self.tries)
        self.tries = min(self.tries + 1, _LONGEST_POWER)
        return max(at_least or 0.0, longest * random.uniform(0.5, 1))

    def begin_anew(self) -> None:
        """Forget the tries, after a success."""
        self.tries = 0
