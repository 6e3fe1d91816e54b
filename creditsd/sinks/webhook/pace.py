"""Adapts the number of concurrent requests to what an endpoint takes (additive increase, multiplicative decrease)."""

from __future__ import annotations

from creditsd.sinks.webhook.answers import TRY_LATER
from creditsd.sinks.webhook.attempt import Attempt

# How many totals must find nobody before the endpoint counts as away; fewer may have themselves to blame. Each try
# that found nobody asks for twice as many, so that no few users, however ill, stop everyone else.
_FEWEST_MISSES = 4
_MOST_MISSES = 64


class Pace:
    """Halves the concurrency when an endpoint asks for a pause, and adds one for each batch without."""

    def __init__(self, concurrency: int) -> None:
        self._most = float(concurrency)
        self._width = self._most
        self._misses = 0
        self.troubled: set[str] = set()

    def requests_at_once(self, totals: int) -> int:
        """Return how many requests to send at once for so many totals."""
        return min(int(self._width), totals)

    def patience(self, at_once: int) -> int:
        """Return how many requests of the next batch must fail to connect before the endpoint counts as away."""
        return max(at_once, min(_FEWEST_MISSES << min(self._misses, 8), _MOST_MISSES))

    def learn(self, attempt: Attempt) -> None:
        """Adapt to the outcomes of a batch."""
        if any(each.status in TRY_LATER for each in attempt.outcomes.values()):
            self._width = max(1.0, self._width / 2)
        elif attempt.failed is None:
            self._width = min(self._width + min(1.0, attempt.asked / self._width), self._most)
        if attempt.failed is None or attempt.failed.kind != "gone":
            self._misses = self._misses + 1 if attempt.failed is not None and not attempt.answered else 0
