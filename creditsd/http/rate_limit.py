"""A token bucket for each name; the number of buckets is bounded."""

from __future__ import annotations

import time
from collections import OrderedDict

MOST_BUCKETS = 20_000  # then the one that was used the longest ago is forgotten, which is to say: full again
BURST_SECONDS = 2.0  # so much of the rate may come at once


class RateLimit:
    """Token buckets by name; a rate of 0 limits nobody."""

    def __init__(self, per_second: float) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.limit(per_second)

    def limit(self, per_second: float) -> None:
        """Set another rate; what is left in a bucket stays in it."""
        self._per_second = per_second
        self._most = max(1.0, per_second * BURST_SECONDS)

    def take(self, name: str) -> float:
        """Take a token; return 0 if there was one, else the seconds until there is."""
        if self._per_second == 0:
            return 0.0
        now = time.monotonic()
        tokens, since = self._buckets.pop(name, (self._most, now))
        tokens = min(self._most, tokens + (now - since) * self._per_second)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._per_second
        self._buckets[name] = (tokens if wait else tokens - 1, now)
        self._forget_oldest()
        return wait

    def owe(self, name: str, tokens: int) -> None:
        """Take more tokens, be they there or not: whoever asked for much waits the next time."""
        if self._per_second == 0 or tokens <= 0:
            return
        left, since = self._buckets.pop(name, (self._most, time.monotonic()))
        self._buckets[name] = (left - tokens, since)
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        if len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
