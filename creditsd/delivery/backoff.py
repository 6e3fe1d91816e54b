"""How long to wait before the next try: longer each time, and never all at once."""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(slots=True)
class Backoff:
    """Pauses that double, each between half and all of its length, so that many do not return at once."""

    tries: int = 0

    def next(self, at_least: float | None = None) -> float:
        """Return the seconds until the next try."""
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**self.tries)
        self.tries = min(self.tries + 1, 30)
        return max(at_least or 0.0, longest * random.uniform(0.5, 1))
