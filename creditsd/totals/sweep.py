"""Compares everyone with the table, slowly and again and again, and has whoever drifted told anew.

No change of the table is missed as far as is known; this finds, within hours, what is not known.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import structlog

from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, Pool, borrowed, rows
from creditsd.totals.comparison import Comparison

log = structlog.get_logger()

SECONDS_OF_AN_HOUR = 3600.0
HINT = "something writes to the table, or to creditsd's own, where no trigger sees it: see `creditsd doctor`"


@dataclass(frozen=True, slots=True)
class Timings:
    """How much of a processor it may take, and the shortest pause between two pages."""

    share: float = 0.01
    page_seconds: float = 1.0


class Sweep:
    """The job of one leadership. `told` hears how many drifted, and how; `at_rest`, whether now is the time for it."""

    def __init__(
        self,
        policy: Mapping[str, str],
        hours: float,
        page_users: int,
        *,
        at_rest: Callable[[], bool],
        told: Callable[[str, int], None],
        timings: Timings | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._policy = policy
        self._hours = hours
        self._page_users = page_users
        self._at_rest = at_rest
        self._told = told
        self._timings = timings or Timings()
        self._pause = pause
        self._after: str | None = None
        self._suspects: Sequence[str] = ()

    async def run(self, pool: Pool) -> NoReturn:
        """Compare a page after another in the background, until cancelled; without the database that pauses."""
        while True:
            began, over = time.monotonic(), False
            try:
                if self._at_rest():
                    async with borrowed(pool) as connection:
                        over = await self._step(connection)
            except (DatabaseUnavailable, SchemaError) as error:
                log.debug("balances.sweep_interrupted", reason=str(error))
            worked = time.monotonic() - began
            rest = worked / self._timings.share - worked
            await self._pause(self._hours * SECONDS_OF_AN_HOUR if over else max(rest, self._timings.page_seconds))

    async def _step(self, connection: Connection) -> bool:
        """Judge the suspects of the page before, and compare the next one; True where that was the last."""
        comparison = Comparison(connection, self._policy)
        if self._suspects:
            await self._judge(connection, comparison, self._suspects)
        self._suspects = ()
        users = await comparison.users_after(self._after, self._page_users)
        found = await comparison.compare(users) if users else {}
        self._suspects = [user_id for user_id, each in found.items() if each.drift is not None]
        self._after = users[-1] if users else None
        if self._suspects or len(users) == self._page_users:
            return False
        self._after = None
        log.debug("balances.swept")
        return True

    async def _judge(self, connection: Connection, comparison: Comparison, suspects: Sequence[str]) -> None:
        """Look again at whoever differed: who still does, and whom no news is on its way for, has drifted."""
        unread = await comparison.unread(suspects)
        again = await comparison.compare([user_id for user_id in suspects if user_id not in unread])
        drifted = {user_id: str(each.drift) for user_id, each in again.items() if each.drift is not None}
        asked = await rows(connection, sql_files.sql("queries/repairs_asked"), {"user_ids": list(drifted)})
        kinds = Counter(drifted[user_id] for (user_id,) in asked)
        for kind, users in kinds.items():
            self._told(kind, users)
        if asked:
            log.warning("balances.drifted", **kinds, one=min(drifted), hint=HINT)
