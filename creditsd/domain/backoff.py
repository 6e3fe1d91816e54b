"""How long to wait before the next try: longer each time, and never all at once."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(slots=True)
class Backoff:
    """Pauses that double, each between half and all of its length, so that many do not return at once."""

    first_seconds: float = field(default_factory=lambda: FIRST_PAUSE_SECONDS)
    longest_seconds: float = field(default_factory=lambda: LONGEST_PAUSE_SECONDS)
    tries: int = 0

    def next(self, at_least: float | None = None) -> float:
        """Return the seconds until the next try."""
        longest = min(self.longest_seconds, self.first_seconds * 2.0**self.tries)
        self.tries = min(self.tries + 1, 30)
        return max(at_least or 0.0, longest * random.uniform(0.5, 1))

    def begin_anew(self) -> None:
        """Forget the tries, after a success."""
        self.tries = 0
