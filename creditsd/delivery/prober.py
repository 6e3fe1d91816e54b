"""Tries a sink that is ill with one total at a time: where that arrives, the others follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from creditsd.delivery.backlog import Backlog
from creditsd.delivery.guarded_sink import GuardedSink
from creditsd.delivery.handover import Handover
from creditsd.delivery.retries import Retries
from creditsd.delivery.sink_health import SinkHealth
from creditsd.delivery.sink_row import SinkRow
from creditsd.domain.total import Total


@dataclass(frozen=True, slots=True)
class Prober:
    """Chooses each time another user: from what comes next, and where that is a whole page, from far behind it too.

    Many users who are refused may stand together, and nobody among them tells whether others pass.
    """

    sink: GuardedSink
    row: SinkRow
    backlog: Backlog
    retries: Retries
    health: SinkHealth
    handover: Handover

    async def probe(self) -> tuple[Sequence[Total], bool]:
        """Try one total. Return what to deliver now, and whether one that lies ahead of it or in it has arrived.

        Raises what Handover.probe does.
        """
        totals = await self.backlog.next(self.row.cursor, probing=True)
        if not totals:
            await self._probe_retry()
            return (), False
        candidates = await self._free(totals)
        one = await self._beyond() if self.health.looks_beyond and self.backlog.page_was_full else None
        one = one or (self.health.probe(candidates) if candidates else None)
        if one is not None:
            await self.handover.probe(one, follows=one is totals[0])
        elif candidates:
            self.health.acquitted()
        if len(totals) > self.sink.max_batch:  # more to choose from than to deliver: the rest is read anew
            totals = totals[: self.sink.max_batch]
            self.backlog.rewind(self.row.cursor)
        self.backlog.probe = one
        return totals, one is not None

    async def _free(self, totals: Sequence[Total]) -> Sequence[Total]:
        """Return those who need not wait for another try."""
        held = await self.retries.held(totals)
        return [each for each in totals if each.user_id not in held]

    async def _beyond(self) -> Total | None:
        one = await self.backlog.beyond(self.row.cursor, newest=self.health.looks_beyond_first)
        return one if one is not None and await self._free([one]) else None

    async def _probe_retry(self) -> None:
        """Try one of those who wait for another try, where it is time, because nobody else is there to try."""
        waits = self.retries.due_seconds != 0.0
        due = () if waits else await self.retries.due(self.sink.max_batch, self.row.cursor)
        one = self.health.probe(due) if due else None
        if one is not None:
            await self.handover.probe(one, follows=False)
        elif due:
            self.health.acquitted()
        else:
            self.health.reached()
