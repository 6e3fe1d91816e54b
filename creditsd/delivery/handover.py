"""Hands totals to a sink and stores what became of them: the cursor passes only what has arrived or is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from creditsd.delivery.event_cursor import EventCursor
from creditsd.delivery.guarded_sink import GuardedSink
from creditsd.delivery.overtaken import Overtaken
from creditsd.delivery.retries import Retries
from creditsd.delivery.sink_health import SinkHealth
from creditsd.delivery.sink_row import SinkRow
from creditsd.delivery.timings import Bounds
from creditsd.domain.total import Total
from creditsd.postgres.connections import Pool, transaction
from creditsd.sinks import Rejection, SinkBusy, SinkRefusing, SinkTroubled

log = structlog.get_logger()


class Superseded(Exception):  # noqa: N818  reads as the state it reports
    """The publisher has been told to do something else: nothing more is to go out."""


class Handover:
    """One delivery after the other, each settled before the next begins, as long as it `goes_on`."""

    def __init__(
        self,
        *,
        pool: Pool,
        sink: GuardedSink,
        sink_row: SinkRow,
        retries: Retries,
        event_cursor: EventCursor,
        health: SinkHealth,
        every: bool,
        bounds: Bounds,
        goes_on: Callable[[], bool],
        arrived: Callable[[float], None],
        settled: Callable[[int, int], None],
    ) -> None:
        self._pool = pool
        self._sink = sink
        self._row = sink_row
        self._retries = retries
        self._event_cursor = event_cursor
        self._health = health
        self._every = every
        self.overtaken = Overtaken(bounds.known_deliveries)
        sink.heed(self.overtaken)
        self._goes_on = goes_on
        self._arrived = arrived
        self._settled = settled
        self._waits = False  # whether whoever delivers does nothing but wait for the next totals
        self._ahead: dict[str, int] = {}  # users whose total was settled before its turn, and its version

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """For as long as the block lasts, `begin` may send what is delivered after it."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def begin(self, totals: Sequence[Total]) -> None:
        """Send what follows the cursor before its turn, where it would be delivered next and as it is.

        `deliver` then reads the answer, and settles it. Once only: nothing may overtake it.
        """
        if not self._waits or not totals or self._event_cursor.kept or self._health.ill or self._ahead:
            return
        someone_waits = self._retries.due_seconds is not None or self._retries.concern(totals)
        if not someone_waits and len(self._run(totals, 0)) == len(totals) and self._goes_on():
            self._waits = not self._sink.begin(totals)

    async def deliver(self, totals: Sequence[Total], *, proven: bool = False) -> None:
        """Deliver what follows the cursor, but for what has arrived before its turn, and what that has made old.

        `proven`, somebody behind has just been told: whoever is refused is kept.
        Raises SinkUnavailable, DatabaseUnavailable, CursorMoved and Superseded; the cursor then stands before the rest.
        """
        held = await self._retries.held(totals)
        start = 0
        while start < len(totals):
            run = self._run(totals, start)
            start += len(run)
            part = [each for each in run if each.user_id not in held and not self._is_through(each)]
            if part:
                refused = await self._hand_over(part, upto=run[-1].version, proven=proven)
                if self._every:
                    held |= {rejection.total.user_id for rejection in refused}
            else:
                self._row.cursor = max(self._row.cursor, run[-1].version)
            if self._every and held:
                await self._retries.look(self._row.cursor)  # a step that waits may be within reach now

    async def probe(self, total: Total, *, follows: bool) -> None:
        """Try one total, which may be the next after the cursor. Raises SinkUnavailable where it does not arrive."""
        await self._hand_over([total], upto=total.version if follows else None, replaceable=False)
        self._note_ahead([total])  # who has taken a part of it, and refused the rest, waits for another try

    async def retry(self, totals: Sequence[Total]) -> None:
        """Deliver again what was refused, of each user one total."""
        totals = sorted(totals, key=lambda total: total.version)
        start = 0
        while start < len(totals):
            run = self._run(totals, start)
            start += len(run)
            await self._hand_over(run, upto=None)

    def rewind(self) -> None:
        """Forget what has arrived before its turn: what comes next is read from the table, or is to be told again."""
        self._ahead.clear()
        self.overtaken.clear()

    def _is_through(self, total: Total) -> bool:
        """Whether it has arrived before its turn, or is an older one that was in memory meanwhile."""
        return total.version <= max(self._row.cursor, self._ahead.get(total.user_id, 0))

    def _note_ahead(self, settled: Sequence[Total]) -> None:
        """Note whose turn is still to come, of those who were tried out of turn."""
        cursor = self._row.cursor
        if self._ahead:
            self._ahead = {user_id: version for user_id, version in self._ahead.items() if version > cursor}
        if settled and settled[-1].version > cursor:
            self._ahead.update((each.user_id, each.version) for each in settled if each.version > cursor)

    def _run(self, totals: Sequence[Total], start: int) -> Sequence[Total]:
        """Return the next that can go out together: each user once, and no more than the sink takes."""
        run = totals[start : start + self._health.size(self._sink.max_batch)]
        if not self._every:
            return run
        users: set[str] = set()
        for number, total in enumerate(run):
            if total.user_id in users:
                return run[:number]
            users.add(total.user_id)
        return run

    async def _hand_over(
        self, part: Sequence[Total], *, upto: int | None, proven: bool = False, replaceable: bool = True
    ) -> Sequence[Rejection]:
        """Deliver a part and settle it; with `upto`, the cursor then passes that version.

        `proven`, somebody behind has just been told: those who are refused are to blame, and must not stop the others.
        """
        if self._event_cursor.kept:
            part = self._event_cursor.owed(part, await self._retries.refused(part))
        if not self._goes_on():
            raise Superseded
        self.overtaken.begin(heeded=replaceable and not self._every)
        try:
            refused = await self._sent(part, fresh=upto is not None)
        except SinkBusy as busy:
            blamed = proven or (upto is None and not self._health.ill and self._health.lately_well)
            if isinstance(busy, SinkTroubled) and not blamed:
                raise SinkBusy(str(busy), busy.retry_after_seconds) from busy  # all of them stay where they are
            if busy.through:
                through = part[: busy.through]
                passed = None if upto is None else through[-1].version
                await self._settle(through, busy.refused, passed, busy=True, proven=proven)
            if isinstance(busy, SinkRefusing) and upto is None:
                return busy.refused  # those of another try have been refused before: that says nothing of the others
            raise
        await self._settle(part, refused, upto, proven=proven)
        return refused

    async def _sent(self, part: Sequence[Total], *, fresh: bool) -> Sequence[Rejection]:
        """Deliver a part as the sink does, and trace that where anything is traced."""
        tracer = self._sink.tracer
        if tracer is None:
            return await self._sink.deliver(part)
        with tracer.delivery(self._row.name, part) as span:
            self._sink.trace(span.headers)
            try:
                refused = await self._sink.deliver(part)
            except SinkBusy as busy:
                span.settled(len(busy.refused), self._first_time(part[: busy.through], busy.refused) if fresh else [])
                raise
            span.settled(len(refused), self._first_time(part, refused) if fresh else [])
            return refused

    def _first_time(self, part: Sequence[Total], refused: Sequence[Rejection]) -> Sequence[Total]:
        """Return what has arrived of a part that follows the cursor."""
        missed = {rejection.total.user_id for rejection in refused} | self.overtaken.passed
        return [each for each in part if each.user_id not in missed]

    async def _settle(
        self,
        part: Sequence[Total],
        refused: Sequence[Rejection],
        upto: int | None,
        *,
        proven: bool,
        busy: bool = False,
    ) -> None:
        """Keep what was refused, and only then move the cursor over what is through.

        Raises RefusesEveryone: before anything is kept, or where it is `proven` that others arrive, after that.
        """
        part = [each for each in part if each.user_id not in self.overtaken.passed] if self.overtaken.passed else part
        cursor = self._row.cursor if upto is None else max(self._row.cursor, upto)
        if not part:
            self._row.cursor = cursor
            return
        log.debug("publisher.delivered", sink=self._row.name, totals=len(part), refused=len(refused))
        missed = {rejection.total.user_id for rejection in refused}
        arrived = [each for each in part if each.user_id not in missed] if missed else part
        alive = bool(arrived) or any(rejection.accepted for rejection in refused)
        everyone, well_again = None, False
        if alive:
            well_again = self._health.arrived(busy=busy)
        elif upto is not None or self._health.ill:
            everyone = self._health.refused(missed, refused[0].reason)
        if everyone is not None and not proven:
            raise everyone
        self._count(arrived, refused, fresh=upto is not None)
        if refused or self._retries.concern(arrived):
            await self._store(arrived, refused, cursor, failing=not alive)
        else:
            self._row.cursor = cursor
        self._event_cursor.told(arrived)
        self._note_ahead(arrived)
        if well_again:
            await self._retries.pull_forward()
        if everyone is not None and not busy:  # one that is busy has said itself why, and for how long
            raise everyone

    def _count(self, arrived: Sequence[Total], refused: Sequence[Rejection], *, fresh: bool) -> None:
        self._row.note_delivered(len(arrived))
        self._settled(len(arrived), len(refused))
        if fresh and arrived:
            self._arrived(arrived[0].version / 1_000_000)

    async def _store(
        self, arrived: Sequence[Total], refused: Sequence[Rejection], cursor: int, *, failing: bool
    ) -> None:
        positions = [self._event_cursor.position(each.total.user_id) for each in refused]
        after, error = self._event_cursor.after, self._health.error
        async with transaction(self._pool) as connection:
            settlement = await self._retries.settle(connection, arrived, refused, positions, cursor)
            found = await self._row.save_on(connection, cursor, after, error, failing=failing)
        self._retries.settled(settlement, refused)
        self._row.saved(found, cursor, after, error)
