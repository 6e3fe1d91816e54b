"""Whoever was published in the last minutes: what a crash or a failover may have taken back is published again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from creditsd.domain.total import Total
from creditsd.totals.recompute import Recomputer


@dataclass(frozen=True, slots=True)
class Timings:
    """How far back a crash or a failover may reach.

    An asynchronous commit is lost within a second; an asynchronous standby may be further behind.
    """

    recent_seconds: float = 300.0
    recent_users: int = 30_000


class RecentlyPublished:
    """Remembers users, the longest ago first. What the database has lost it cannot tell, so this is kept here."""

    def __init__(self, timings: Timings | None = None) -> None:
        self._timings = timings or Timings()
        # Not a dict: in one that loses its first item again and again, finding the next takes longer each time.
        self._published_at: OrderedDict[str, float] = OrderedDict()

    def add(self, totals: Sequence[Total]) -> None:
        """Remember the users of totals that are published now, and forget those of long ago."""
        timings, now = self._timings, time.monotonic()
        for total in totals:
            self._published_at[total.user_id] = now
            self._published_at.move_to_end(total.user_id)
        since = now - timings.recent_seconds
        while len(self._published_at) > timings.recent_users or next(iter(self._published_at.values())) < since:
            self._published_at.popitem(last=False)

    async def users(self, recomputer: Recomputer, *, started_at: str, newest: int) -> list[str]:
        """Return whoever was published in the last minutes before the server went away, each once.

        That is when the newest total was made, however long the server was gone after it.
        """
        started_version = datetime.fromisoformat(started_at).timestamp() * 1_000_000
        since = int(min(started_version, newest) - self._timings.recent_seconds * 1_000_000)
        stored = await recomputer.recently_published(since, self._timings.recent_users)
        return list(dict.fromkeys([*self._published_at, *stored]))
