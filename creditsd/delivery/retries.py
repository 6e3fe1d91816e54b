"""What a sink refused: waits in the database for its next try, and ends as a dead letter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from creditsd.config.printable import one_line
from creditsd.delivery.event_cursor import Refusal
from creditsd.delivery.refusal_log import RefusalLog
from creditsd.delivery.timings import Bounds, Timings
from creditsd.domain.total import Total
from creditsd.postgres import sql_files
from creditsd.postgres.batches import batch
from creditsd.postgres.connections import Connection, Pool, borrowed, row, rows
from creditsd.postgres.encoding import storable
from creditsd.sinks import Rejection

log = structlog.get_logger()

_NO_BOUND = 2**63 - 1
_PULLED_TOGETHER = 1000


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a transaction has stored of refused deliveries: (user, try, seconds until the next), and who has none."""

    kept: Sequence[Sequence[Any]]
    gone: Sequence[str]
    due_at: float | None


class Retries:
    """The refused deliveries of one sink: at most one a user, and what is tried again is the newest total.

    Where the sink is to have every step, `in_order`, it is the very step, and the user's later ones wait behind it.
    A user of whom nothing waits costs no question to the database.
    """

    def __init__(self, sink: str, pool: Pool, *, in_order: bool, timings: Timings, bounds: Bounds) -> None:
        self._sink = sink
        self._pool = pool
        self._in_order = in_order
        self._timings = timings
        self._most_known = bounds.known_deliveries
        self._known: dict[str, bool] | None = {}  # whose delivery waits, or is dead; None where they are too many
        self._due_at: float | None = None
        self._refusals = RefusalLog(sink, bounds.refusals_logged)

    @property
    def due_seconds(self) -> float | None:
        """In how many seconds the next try is due; None when nothing waits."""
        return None if self._due_at is None else max(0.0, self._due_at - _now())

    @property
    def counts(self) -> tuple[int, int] | None:
        """How many wait for their next try, and how many are dead; None where they are too many to know."""
        if self._known is None:
            return None
        dead = sum(self._known.values())
        return len(self._known) - dead, dead

    async def open(self, cursor: int) -> None:
        """Look what waits, after another mode or another daemon."""
        async with borrowed(self._pool) as connection:
            mode = {"name": self._sink, "in_order": self._in_order}
            await rows(connection, sql_files.sql("queries/deliveries_ordered"), mode)
            asked = {"name": self._sink, "limit": self._most_known + 1}
            found: dict[str, bool] = dict(await rows(connection, sql_files.sql("queries/deliveries_known"), asked))
            self._known = found if len(found) <= self._most_known else None
            self._due_at = await self._next_due_at(connection, cursor)

    async def look(self, cursor: int) -> None:
        """Look when the next try is due; a step that the cursor has not reached is its turn only then."""
        async with borrowed(self._pool) as connection:
            self._due_at = await self._next_due_at(connection, cursor)

    async def pull_forward(self) -> None:
        """Have those be due now whom the receiver's illness may have cost a try, once for each version.

        Failing again then costs them none. Of whom the receiver asked patience itself, or said another fault, waits on.
        """
        if self._known is not None and all(self._known.values()):
            return
        delays = list(self._timings.retry_delays_seconds)
        asked = {"name": self._sink, "delays": delays, "limit": _PULLED_TOGETHER}
        pulled, page = 0, _PULLED_TOGETHER
        while page == _PULLED_TOGETHER:
            async with borrowed(self._pool) as connection:
                page = len(await rows(connection, sql_files.sql("queries/deliveries_pulled"), asked))
            pulled += page
        if pulled:
            log.info("deliveries.pulled_forward", sink=self._sink, deliveries=pulled)
            self._due_at = _now()

    def concern(self, totals: Iterable[Total]) -> bool:
        """Whether a delivery of one of these users may wait or be dead."""
        known = self._known
        return known is None or (bool(known) and any(total.user_id in known for total in totals))

    async def held(self, totals: Sequence[Total]) -> set[str]:
        """Return the users of these totals who have to wait.

        That is behind a step of theirs that was refused, or for a next try that is due soon and takes the newest.
        """
        if not self.concern(totals):
            return set()
        asked = {**self._users(totals), "soon_seconds": None if self._in_order else self._timings.retry_soon_seconds}
        async with borrowed(self._pool) as connection:
            return {user_id for (user_id,) in await rows(connection, sql_files.sql("queries/deliveries_held"), asked)}

    async def due(self, limit: int, cursor: int) -> Sequence[Total]:
        """Return what is to be tried again of those whose next try is due, at most `limit`."""
        query = sql_files.sql("queries/steps_due" if self._in_order else "queries/deliveries_due")
        async with borrowed(self._pool) as connection:
            found = await batch(connection, query, {"name": self._sink, "limit": limit, "upto": cursor})
            if not found.totals:
                # Where there is nothing to send of one who is due, asking again at once would find the same.
                not_before = _now() + self._timings.look_seconds
                due_at = await self._next_due_at(connection, cursor)
                self._due_at = None if due_at is None else max(due_at, not_before)
        if found.page.get("missed"):
            hint = "set [history] days to more than a delivery may wait"
            log.error("deliveries.steps_missed", sink=self._sink, users=found.page["missed"], hint=hint)
        return found.totals

    async def refused(self, totals: Sequence[Total]) -> dict[str, Refusal]:
        """Return of whom a delivery waits or is dead, and what they have been told."""
        if not self.concern(totals):
            return {}
        async with borrowed(self._pool) as connection:
            found = await rows(connection, sql_files.sql("queries/deliveries_refused"), self._users(totals))
        return {user_id: Refusal(events_after, accepted) for user_id, events_after, accepted in found}

    async def settle(
        self,
        connection: Connection,
        arrived: Sequence[Total],
        refused: Sequence[Rejection],
        positions: Sequence[int],
        cursor: int,
    ) -> Settlement:
        """Store what became of a batch, as part of a transaction; what it returns is for `settled`, once committed.

        `positions` say how far each refused user had been told what happened.
        """
        concerned = [total for total in arrived if self.concern([total])]
        taken, gone = [], []
        if concerned:
            asked = {**self._users(concerned), "versions": [each.version for each in concerned], "cursor": cursor}
            if self._in_order:
                await rows(connection, sql_files.sql("queries/deliveries_followed"), asked)
            gone = await rows(connection, sql_files.sql("queries/deliveries_arrived"), asked)
        if refused:
            kept = self._kept(connection, refused, positions)
            taken = await rows(connection, sql_files.sql("queries/deliveries_kept"), kept)
        return Settlement(taken, [user_id for (user_id,) in gone], await self._next_due_at(connection, cursor))

    def settled(self, settlement: Settlement, refused: Sequence[Rejection]) -> None:
        """Take note of what has been committed, and log what was refused."""
        self._due_at = settlement.due_at
        outcomes = {user_id: (attempt, seconds) for user_id, attempt, seconds in settlement.kept}
        if self._known is not None:
            for user_id in settlement.gone:
                self._known.pop(user_id, None)
            self._known.update({user_id: seconds is None for user_id, (_, seconds) in outcomes.items()})
            if len(self._known) > self._most_known:
                self._known = None
        for rejection in refused:
            attempt, seconds = outcomes.get(rejection.total.user_id, (1, None))
            self._refusals.refused(rejection, attempt, seconds)
        died = sum(seconds is None for _, seconds in outcomes.values())
        if died:
            log.error("deliveries.died", sink=self._sink, deliveries=died, hint="see `creditsd deliveries list`")

    def _users(self, totals: Sequence[Total]) -> dict[str, Any]:
        return {"name": self._sink, "user_ids": [total.user_id for total in totals]}

    def _kept(self, connection: Connection, refused: Sequence[Rejection], positions: Sequence[int]) -> dict[str, Any]:
        return {
            **self._users([each.total for each in refused]),
            "versions": [each.total.version for each in refused],
            "statuses": [each.status for each in refused],
            "reasons": [storable(connection, one_line(each.reason)) for each in refused],
            "retry_afters": [each.retry_after_seconds for each in refused],
            "events_afters": list(positions),
            "accepted": [json.dumps({event.type: event.version for event in each.accepted}) for each in refused],
            "delays": list(self._timings.retry_delays_seconds),
            "in_order": self._in_order,
        }

    async def _next_due_at(self, connection: Connection, cursor: int) -> float | None:
        asked = {"name": self._sink, "upto": cursor if self._in_order else _NO_BOUND}
        found = await row(connection, sql_files.sql("queries/delivery_due"), asked)
        return None if found is None else _now() + max(0.0, found[0])


def _now() -> float:
    return asyncio.get_running_loop().time()
