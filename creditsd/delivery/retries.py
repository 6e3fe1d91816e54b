"""What a sink refused: waits in the database for its next try, and ends as a dead letter."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import structlog

from creditsd.delivery.event_cursor import Refusal
from creditsd.domain.total import Total
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Pool, batch, borrowed, row, rows
from creditsd.sinks import Rejection

log = structlog.get_logger()

# The schedule Standard Webhooks recommends: the pause after each failed try, the first of which was at once.
DELAYS_SECONDS = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)


NO_BOUND = 2**63 - 1


class Retries:
    """The refused deliveries of one sink: at most one a user, and what is tried again is the newest total.

    Where the sink is to have every step, `in_order`, it is the very step, and the user's later ones wait behind it.
    """

    def __init__(self, sink: str, pool: Pool, *, user_id_type: str, in_order: bool) -> None:
        self._sink = sink
        self._pool = pool
        self._in_order = in_order
        self._held = sql_files.sql("queries/deliveries_held").replace("{user_id_type}", user_id_type)
        self._delays = list(DELAYS_SECONDS)
        self._refused = sql_files.sql("queries/deliveries_refused").replace("{user_id_type}", user_id_type)
        self._settled = sql_files.sql("queries/deliveries_settled").replace("{user_id_type}", user_id_type)
        self._due_at: float | None = None
        self.waiting = 0
        self.dead = 0

    @property
    def any(self) -> bool:
        """Whether a delivery may take a waiting or dead one's place."""
        return self.waiting + self.dead > 0

    @property
    def due_seconds(self) -> float | None:
        """In how many seconds the next try is due; None when nothing waits."""
        return None if self._due_at is None else max(0.0, self._due_at - time.monotonic())

    async def open(self, cursor: int) -> None:
        """Look what waits, after another mode or another daemon."""
        async with borrowed(self._pool) as connection:
            mode = {"name": self._sink, "in_order": self._in_order}
            await rows(connection, sql_files.sql("queries/deliveries_ordered"), mode)
        await self.load(cursor)

    async def load(self, cursor: int) -> None:
        """Look what waits; a step that the cursor has not reached is its turn only then."""
        parameters = {"name": self._sink, "upto": cursor if self._in_order else NO_BOUND}
        async with borrowed(self._pool) as connection:
            found = await row(connection, sql_files.sql("queries/deliveries_waiting"), parameters)
        assert found is not None
        self.waiting, self.dead, due_seconds = found
        self._due_at = None if due_seconds is None else time.monotonic() + due_seconds

    async def held(self, totals: Sequence[Total]) -> set[str]:
        """Return the users of these totals who have to wait behind a step of theirs that was refused."""
        if not (self._in_order and self.any):
            return set()
        async with borrowed(self._pool) as connection:
            parameters = {"name": self._sink, "user_ids": [total.user_id for total in totals]}
            return {user_id for (user_id,) in await rows(connection, self._held, parameters)}

    async def due(self, limit: int, cursor: int) -> Sequence[Total]:
        """Return what is to be tried again of those whose next try is due, at most `limit`."""
        query = sql_files.sql("queries/steps_due" if self._in_order else "queries/deliveries_due")
        async with borrowed(self._pool) as connection:
            found = await batch(connection, query, {"name": self._sink, "limit": limit, "upto": cursor})
        if found.page.get("missed"):
            hint = "set [history] days to more than a delivery may wait"
            log.error("deliveries.steps_missed", sink=self._sink, users=found.page["missed"], hint=hint)
        if not found.totals:
            await self.load(cursor)
        return found.totals

    async def refused(self, totals: Sequence[Total]) -> dict[str, Refusal]:
        """Return of whom a delivery waits or is dead, and what they have been told."""
        if not self.any:
            return {}
        parameters = {"name": self._sink, "user_ids": [total.user_id for total in totals]}
        async with borrowed(self._pool) as connection:
            found = await rows(connection, self._refused, parameters)
        return {user_id: Refusal(events_after, accepted) for user_id, events_after, accepted in found}

    async def settle(
        self,
        totals: Sequence[Total],
        refused: Sequence[Rejection],
        positions: Sequence[int],
        *,
        saved: int,
        cursor: int,
        delivered: int,
        events_after: int | None,
    ) -> None:
        """Store what became of a batch, and with it the sink's state: nothing refused is ever only in memory.

        `positions` say how far each refused user had been told what happened. A cursor that is not `saved` any more has
        been set by somebody else, and stays.
        """
        missed = {rejection.total.user_id for rejection in refused}
        arrived = [total for total in totals if total.user_id not in missed]
        async with borrowed(self._pool) as connection:
            found = await row(
                connection,
                self._settled,
                {
                    "name": self._sink,
                    "user_ids": [rejection.total.user_id for rejection in refused],
                    "versions": [rejection.total.version for rejection in refused],
                    "statuses": [rejection.status for rejection in refused],
                    "reasons": [rejection.reason for rejection in refused],
                    "retry_afters": [rejection.retry_after_seconds for rejection in refused],
                    "delays": self._delays,
                    "arrived_ids": [total.user_id for total in arrived],
                    "arrived_versions": [total.version for total in arrived],
                    "events_afters": list(positions),
                    "accepted": [
                        json.dumps({event.type: event.version for event in rejection.accepted}) for rejection in refused
                    ],
                    "in_order": self._in_order,
                    "saved": saved,
                    "cursor": cursor,
                    "delivered": delivered,
                    "events_after": events_after,
                },
            )
        if found is not None and found[0]:
            log.error("deliveries.died", sink=self._sink, deliveries=found[0], hint="see `creditsd deliveries list`")
        await self.load(cursor)
