"""What a crash or a failover may have taken back after it was published: who must be published again."""

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
    """How far back whoever was published is remembered, and how many users at most.

    An asynchronous commit is lost within a second; an asynchronous standby may be further behind.
    """

    recent_seconds: float = 300.0
    recent_users: int = 30_000


class RecentlyPublished:
    """Remembers whom we published last, and the highest version given out: a server that lost both cannot tell.

    Versions grow in the order of commits, and what a server loses is the end of its log: so what is lost are exactly
    the versions above the highest one it still knows.
    """

    def __init__(self, timings: Timings | None = None) -> None:
        self._timings = timings or Timings()
        # When and at which version each was published, the longest ago first. Not a dict: in one that loses its first
        # item again and again, finding the next takes longer each time.
        self._published: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._complete_after: int | None = None  # None: somebody else may have published since
        self.highest = 0
        self._flushed = 0

    @property
    def unflushed(self) -> bool:
        """Whether a crash of the server may take back something that was published."""
        return self.highest > self._flushed

    def flushed(self, version: int) -> None:
        """Note that the server has on disk whatever was stored up to a version."""
        self._flushed = max(self._flushed, version)

    def see(self, version: int) -> None:
        """Note a version that was given out, by whomever."""
        self.highest = max(self.highest, version)

    def lead(self, highest: int) -> None:
        """Begin, or go on: whatever is published from now on is handed to `add`."""
        self.see(highest)
        if self._complete_after is None:
            self._complete_after = self.highest

    def stand_by(self) -> None:
        """Hear that somebody else publishes."""
        self._complete_after = None
        self._flushed = 0

    def add(self, totals: Sequence[Total]) -> None:
        """Remember the users of totals that are published now, in order, and forget those of long ago."""
        published, timings, now = self._published, self._timings, time.monotonic()
        for total in totals:
            published[total.user_id] = (now, total.version)
            published.move_to_end(total.user_id)
        self.see(totals[-1].version)
        since = now - timings.recent_seconds
        while len(published) > timings.recent_users or next(iter(published.values()))[0] < since:
            _, (_, version) = published.popitem(last=False)
            if self._complete_after is not None:
                self._complete_after = max(self._complete_after, version)

    def lost_by(self, highest: int) -> bool:
        """Whether versions were given out that a server does not know, which knows of none above `highest`."""
        return self.highest > highest

    def remembers_after(self, highest: int) -> bool:
        """Whether everyone who was published above a version is remembered."""
        return self._complete_after is not None and self._complete_after <= highest

    async def users(
        self, recomputer: Recomputer, *, started_at: str, highest: int, same_disk: bool = False
    ) -> list[str]:
        """Return whom the server has lost, and whoever was published in the last minutes before it went away.

        That is when the newest total was made, however long the server was gone after it; of the `same_disk`, what is
        known to have been on it stays.
        """
        lost = [user_id for user_id, (_, version) in self._published.items() if version > highest]
        started_version = datetime.fromisoformat(started_at).timestamp() * 1_000_000
        since = int(min(started_version, highest) - self._timings.recent_seconds * 1_000_000)
        if same_disk and highest >= self._flushed:
            since = max(since, self._flushed)
        stored = await recomputer.recently_published(since, self._timings.recent_users)
        return list(dict.fromkeys([*lost, *stored]))
