"""What a crash or a failover may have taken back after it was published: who must be published again."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from creditsd.domain.total import Total
from creditsd.totals.recompute import Recomputer


@dataclass(frozen=True, slots=True)
class Timings:
    """How far back whoever was published is remembered, and how many users: of large batches up to twice as many.

    An asynchronous commit is lost within a second; an asynchronous standby may be further behind.
    """

    recent_seconds: float = 300.0
    recent_users: int = 30_000


# From so many users on, a batch is remembered as one text: an entry for each of them takes ten times the memory.
_MANY = 100
_BETWEEN = "\0"  # in no text of PostgreSQL's


@dataclass(frozen=True, slots=True)
class PublishedTogether:
    """A large batch: one transaction stored it, so a server has lost all of it or nothing."""

    at: float
    version: int  # of its last total
    count: int
    joined: str

    @classmethod
    def of(cls, at: float, version: int, users: Collection[str]) -> Self:
        """Remember users, each named once."""
        return cls(at, version, len(users), _BETWEEN.join(users))

    def users(self) -> list[str]:
        """Return the ids of its users."""
        return self.joined.split(_BETWEEN)


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
        self._together: deque[PublishedTogether] = deque()
        self._count_together = 0
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
        """Remember the users of totals that one transaction has stored, in order, and forget those of long ago."""
        now, last = time.monotonic(), totals[-1].version
        if len(totals) >= _MANY:
            users = dict.fromkeys(total.user_id for total in totals)
            self._together.append(PublishedTogether.of(now, last, users))
            self._count_together += len(users)
            for user_id in users:
                self._published.pop(user_id, None)
        else:
            for total in totals:
                self._published[total.user_id] = (now, total.version)
                self._published.move_to_end(total.user_id)
        self.see(last)
        for version in self._forgotten(now - self._timings.recent_seconds, self._most()):
            if self._complete_after is not None:
                self._complete_after = max(self._complete_after, version)

    def _most(self) -> int:
        """Return how many may stay; a user who is in many batches counts once, and is looked for now and then."""
        most = self._timings.recent_users
        if not self._together:
            return most
        if len(self._published) + self._count_together <= 2 * most:
            return 2 * most
        self._forget_repeated()
        return most

    def _forget_repeated(self) -> None:
        """Forget of each user all but the last time, which is the one that a server loses first."""
        later = set(self._published)
        kept: deque[PublishedTogether] = deque()
        for batch in reversed(self._together):
            users = [user_id for user_id in batch.users() if user_id not in later]
            later.update(users)
            if users:
                kept.appendleft(PublishedTogether.of(batch.at, batch.version, users))
        self._together = kept
        self._count_together = sum(batch.count for batch in kept)

    def _forgotten(self, since: float, most: int) -> Iterator[int]:
        """Forget whoever was published longest ago, one by one or batch by batch; yield their versions."""
        apart, together = self._published, self._together
        while apart or together:
            one = next(iter(apart.values()), None)
            is_one = one is not None and not (together and together[0].version < one[1])
            at, version = one if one is not None and is_one else (together[0].at, together[0].version)
            if at >= since and len(apart) + self._count_together <= most:
                break
            if is_one:
                apart.popitem(last=False)
            else:
                self._count_together -= together.popleft().count
            yield version

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
        lost += [user_id for batch in self._together if batch.version > highest for user_id in batch.users()]
        started_version = datetime.fromisoformat(started_at).timestamp() * 1_000_000
        since = int(min(started_version, highest) - self._timings.recent_seconds * 1_000_000)
        if same_disk and highest >= self._flushed:
            since = max(since, self._flushed)
        stored = await recomputer.recently_published(since, self._timings.recent_users)
        return list(dict.fromkeys([*lost, *stored]))
