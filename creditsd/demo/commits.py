"""When each change was committed, so that a total can be told how long it took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from creditsd.domain.total import Total
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, rows

_OLDEST_SECONDS = 60.0  # an earlier commit is not what this total comes from
_MOST_ASKED = 1000


class Age(NamedTuple):
    """How old the reason of a total was when the total arrived, and whether the demo itself gave that reason."""

    milliseconds: float | None
    ours: bool


class Commits:
    """Notes the demo's own commits as they return; asks the server about everybody else's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._returned: dict[str, float | None] = {}  # None: under way
        self._ends: dict[str, float] = {}

    def begun(self, user_id: str) -> None:
        """Note that a write of ours is under way."""
        self._returned[user_id] = None

    def ended(self, user_id: str, *, changed: bool) -> None:
        """Note that it has been committed, or that there was nothing to write."""
        if changed:
            self._returned[user_id] = time.time()
        else:
            self._returned.pop(user_id, None)

    def runs_out(self, user_id: str, at: float) -> None:
        """Note when time alone will change a total."""
        self._ends[user_id] = at

    async def ages(self, totals: Sequence[Total], now: float) -> list[Age]:
        """Return the age of each total."""
        strangers = [each.user_id for each in totals if _is_written(each) and each.user_id not in self._returned]
        noted = dict(await self._ask(strangers)) if strangers else {}
        return [self._age(total, noted, now) for total in totals]

    def _age(self, total: Total, noted: Mapping[str, float | None], now: float) -> Age:
        user_id = total.user_id
        if not _is_written(total):
            return Age(_between(self._ends.pop(user_id, None) if total.cause == "expiry" else None, now), ours=True)
        if user_id in self._returned:
            return Age(_between(self._returned.pop(user_id), now), ours=True)
        return Age(_between(noted.get(user_id), now), ours=False)

    async def _ask(self, user_ids: Sequence[str]) -> list[tuple[str, float | None]]:
        query = sql_files.sql("demo/committed_at")
        found = await rows(self._connection, query, {"user_ids": user_ids[:_MOST_ASKED]})
        return [(user_id, at) for user_id, at in found]


def _is_written(total: Total) -> bool:
    """Whether somebody's commit is the reason: not the time, not a recompute of everyone."""
    return total.cause in ("change", "auto-expire")


def _between(then: float | None, now: float) -> float | None:
    return None if then is None or now - then > _OLDEST_SECONDS else max(0.0, (now - then) * 1000)
