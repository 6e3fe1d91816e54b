"""Counts changes, totals and lag in each of the last seconds, for the operator's page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SECONDS = 120


@dataclass(slots=True)
class _Second:
    """What one second saw; `lag` is the longest that a total needed from being stored to its arrival, in seconds."""

    at: int = 0
    changes: int = 0
    totals: int = 0
    lag: float | None = None


class Rates:
    """A ring of the last `SECONDS` seconds; counting costs an addition, whoever looks."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._ring = [_Second() for _ in range(SECONDS + 1)]

    def read(self, changes: int) -> None:
        """Note changes that have been read."""
        self._now().changes += changes

    def published(self, totals: int) -> None:
        """Note totals that have been stored, and so are on their way to every sink."""
        self._now().totals += totals

    def arrived(self, stored_at: float) -> None:
        """Note that a sink has taken what was stored at a time (seconds since 1970, the server's clock)."""
        second = self._now()
        second.lag = max(second.lag or 0.0, self._clock() - stored_at)

    def history(self) -> dict[str, Any]:
        """Return the last whole seconds, oldest first; a lag is None where nothing arrived."""
        now = int(self._clock())
        seconds = [self._seen(at) for at in range(now - SECONDS, now)]
        return {
            "until": now,
            "changes": [each.changes for each in seconds],
            "totals": [each.totals for each in seconds],
            "lag_ms": [None if each.lag is None else round(each.lag * 1000, 1) for each in seconds],
        }

    def _now(self) -> _Second:
        at = int(self._clock())
        second = self._ring[at % len(self._ring)]
        if second.at != at:
            second.at, second.changes, second.totals, second.lag = at, 0, 0, None
        return second

    def _seen(self, at: int) -> _Second:
        second = self._ring[at % len(self._ring)]
        return second if second.at == at else _Second(at)
