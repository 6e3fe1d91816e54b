"""Compares everyone with the table, slowly and again and again, and has whoever drifted told anew.

No change of the table is missed as far as is known; this finds, within hours, what is not known.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import structlog

from creditsd.domain.errors import CreditsdError, DatabaseUnavailable
from creditsd.postgres import sql_files
from creditsd.postgres.batches import summed
from creditsd.postgres.connections import Connection, Pool, borrowed, row, rows
from creditsd.totals.comparison import Comparison

log = structlog.get_logger()

SECONDS_OF_AN_HOUR = 3600.0
HINT = "something writes to the table, or to creditsd's own, where no trigger sees it: see `creditsd doctor`"

Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Timings:
    """How much of a processor it may take, and the shortest pause between two pages."""

    share: float = 0.01
    page_seconds: float = 1.0


class Counted(Protocol):
    """Who counts what a sweep has done."""

    def swept(self, users: int) -> None:
        """Hear that so many users were compared."""

    def drifted(self, kind: str, users: int) -> None:
        """Hear that so many had drifted, and how."""


class Sweep:
    """One daemon's; a leadership after another goes on with it where the last one left it."""

    def __init__(
        self,
        policy: Mapping[str, str],
        *,
        hours: float,
        page_users: int,
        rings: bool,
        metrics: Counted,
        timings: Timings | None = None,
    ) -> None:
        """Make one that pauses for some hours after everyone was compared; it `rings` where a bell wakes the line."""
        self._policy = policy
        self._hours = hours
        self._page_users = page_users
        self._rings = rings
        self._metrics = metrics
        self._timings = timings or Timings()
        self._next_at = 0.0
        self._after: str | None = None
        self._suspects: Sequence[str] = ()

    async def run(self, pool: Pool, *, at_rest: Callable[[], bool], pause: Pause) -> NoReturn:
        """Compare a page after another in the background, until cancelled, while the line is `at_rest`."""
        while True:
            left = self._next_at - time.monotonic()
            if left > 0:
                await pause(left)
            elif at_rest():
                await self._work(pool)
            else:
                await pause(self._timings.page_seconds)

    async def _work(self, pool: Pool) -> None:
        """Do a step, and say when the next one is due; what fails is begun anew, and fails nothing else."""
        began, over = time.monotonic(), False
        try:
            with summed("one of several"):
                async with borrowed(pool) as connection:
                    over = await self._step(connection)
        except DatabaseUnavailable as error:
            log.debug("balances.sweep_interrupted", reason=str(error))
        except CreditsdError as error:
            log.warning("balances.sweep_failed", reason=str(error))
            self._after, self._suspects, over = None, (), True
        ended = time.monotonic()
        rest = (ended - began) * (1 / self._timings.share - 1)
        self._next_at = ended + (self._hours * SECONDS_OF_AN_HOUR if over else max(rest, self._timings.page_seconds))

    async def _step(self, connection: Connection) -> bool:
        """Judge the suspects of the page before, and compare the next one; True where that was the last."""
        comparison = Comparison(connection, self._policy)
        suspects, self._suspects = self._suspects, ()
        if suspects:
            await self._judge(connection, comparison, suspects)
        users = await comparison.users_after(self._after, self._page_users)
        found = await comparison.compare(users) if users else {}
        self._metrics.swept(len(found))
        self._suspects = [user_id for user_id, each in found.items() if each.drift is not None]
        self._after = users[-1] if users else None
        if self._suspects or len(users) == self._page_users:
            return False
        self._after = None
        log.debug("balances.swept")
        return True

    async def _judge(self, connection: Connection, comparison: Comparison, suspects: Sequence[str]) -> None:
        """Look again at whoever differed: who still does, and whom no news is on its way for, has drifted."""
        drifted = await comparison.drifted(suspects)
        asked = await rows(connection, sql_files.sql("queries/repairs_asked"), {"user_ids": list(drifted)})
        kinds = Counter(drifted[user_id] for (user_id,) in asked)
        for kind, users in kinds.items():
            self._metrics.drifted(kind, users)
        if not asked:
            return
        log.warning("balances.drifted", **kinds, one=min(drifted), hint=HINT)
        if self._rings:
            await row(connection, sql_files.sql("queries/rung"))
