"""One cursor loop over `balances`, the same for every sink: what is new goes there, in the order of versions."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from creditsd.delivery.backlog import Backlog, pieces
from creditsd.delivery.event_cursor import EventCursor
from creditsd.delivery.history_backlog import HistoryBacklog, apart
from creditsd.delivery.retries import Retries
from creditsd.domain.backoff import Backoff
from creditsd.domain.errors import DatabaseUnavailable, SchemaError, SinkUnavailable
from creditsd.domain.total import Total
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Pool, borrowed, row
from creditsd.sinks import Choosing, Rejection, Sink, SinkBusy, SinkDisabled

log = structlog.get_logger()

SAVE_SECONDS = 1.0
LOOK_SECONDS = 10.0  # how often one that stands still looks whether it may go on, where no bell tells it
FRESH_TOTALS = 4000  # handed over at most; who is further behind reads the table, where each user stands once
REFUSED_TOGETHER = 20  # where so many are refused and none passes, it is the sink that is ill, not the deliveries


class Publisher:
    """Keeps one sink at the truth. Its cursor is the version up to which everything has arrived there."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        pool: Pool,
        arrived: Callable[[float], None] = lambda _: None,
        settled: Callable[[int, int], None] = lambda delivered, refused: None,  # noqa: ARG005  as it is called
        *,
        every: bool = False,
    ) -> None:
        self.name = name
        self._arrived = arrived
        self._settled = settled
        self._sink = sink
        self._pool = pool
        self._every = every
        self._backlog = Backlog(pool, sink.max_batch, HistoryBacklog(name, pool) if every else None)
        self._cursor = 0
        self._dispatched = 0
        self._page_complete = False  # whether what was taken last left nothing out that was stored by then
        self._event_cursor = EventCursor(kept=isinstance(sink, Choosing))
        self._head = 0
        self._fresh: deque[Sequence[Total]] = deque()
        self._fresh_size = 0
        self._wakeup = asyncio.Event()
        self._ending = False
        self._led = False
        self._registered = False
        self._opened = False
        self._retries: Retries | None = None
        self._user_id_type = ""
        self._backoff = Backoff()
        self._told = False
        self._halted: str | None = None
        self._disabling: str | None = None
        self._disable_after_seconds: float | None = getattr(sink, "disable_after_seconds", None)
        self._refusal = ""
        self._error: str | None = None
        self._error_saved: str | None = None
        self._delivered = 0
        self._saved = 0
        self._after_saved: int | None = None
        self._saved_at = 0.0

    @property
    def cursor(self) -> int:
        """The version up to which everything has arrived, or waits for another try."""
        return self._cursor

    @property
    def behind(self) -> bool:
        """Whether something that is stored has not arrived."""
        return self._cursor < self._head

    @property
    def error(self) -> str | None:
        """Why the sink stands still, or None."""
        return self._halted or self._error

    def lead(self, newest: int, user_id_type: str) -> None:
        """Begin, or go on after another daemon may have led: the database knows how far the sink is."""
        self._head = max(self._head, newest)
        self._user_id_type = user_id_type
        self._led = True
        self._registered = False
        self._wakeup.set()

    def step_down(self) -> None:
        """Stop, and hand back what was handed over or read ahead: another daemon may tell this sink from now on."""
        self._led = False
        self._registered = False
        self._return_to_cursor()
        self._head = self._cursor
        self._wakeup.set()

    def offer(self, totals: Sequence[Total]) -> None:
        """Hand over totals just stored, in order. Never waits, never grows: who is behind reads the table."""
        if not totals:
            return
        follows = self._dispatched >= self._head or bool(
            self._fresh
        )  # nothing lies between these and what is under way
        self._head = max(self._head, totals[-1].version)
        if totals[0].version <= self._dispatched:  # a page of the table had them before we were told
            totals = [each for each in totals if each.version > self._dispatched]
        if not totals:
            return
        if follows and (not self._fresh or self._fresh_size + len(totals) <= FRESH_TOTALS):
            self._fresh.append(totals)
            self._fresh_size += len(totals)
        else:
            self._forget_fresh()
        self._wakeup.set()

    def tell(self) -> None:
        """Look soon at the sink's row, which somebody has changed, and try at once whatever waits for a next try."""
        self._told = True
        self._wakeup.set()

    async def run(self) -> None:
        """Publish until told to end, and then what is left; a failure of sink or database only pauses until then.

        What fails once we end is left to the next start: the saved cursor stands before it.
        """
        while not (self._ending and (self._halted is not None or not self.behind)):
            try:
                await (self._step() if self._led else self._pause(None))
            except (SinkUnavailable, DatabaseUnavailable, SchemaError) as error:
                await self._stumble(error)
                if self._ending:
                    return

    async def end(self) -> None:
        """Let `run` return once nothing waits."""
        self._ending = True
        self._wakeup.set()

    async def close(self) -> None:
        """Save the cursor and let go of the sink."""
        try:
            await self._save_quietly()
        finally:
            await self._sink.close()

    async def _step(self) -> None:
        if self._told or self._disabling is not None:
            self._told = self._registered = False
        if not self._registered:
            await self._register()
        if self._halted is not None:
            await self._pause(LOOK_SECONDS, deaf=True)
            self._registered = False
            return
        if not self._opened:
            await self._sink.open()
            self._opened = True
        retries = self._retries
        assert retries is not None
        if retries.due_seconds == 0.0:
            due = await retries.due(self._sink.max_batch, self._cursor)
            await self._deliver(due, retries, again=True)
        totals = await self._next()
        if totals:
            await self._deliver_reading_on(totals, retries)
        elif not self._ending:
            await self._idle(retries)
        if self._cursor >= self._head or (self._page_complete and self._cursor >= self._dispatched):
            self._event_cursor.clear(self._cursor)
        if self._dirty and time.monotonic() - self._saved_at >= SAVE_SECONDS:
            await self._save()

    async def _register(self) -> None:
        async with borrowed(self._pool) as connection:
            if self._disabling is not None:
                reason = {"name": self.name, "reason": self._disabling}
                await row(connection, sql_files.sql("queries/sink_disabled"), reason)
            found = await row(connection, sql_files.sql("queries/sink_registered"), {"name": self.name})
        assert found is not None
        self._disabling = None
        self._obey(found)
        self._retries = Retries(self.name, self._pool, user_id_type=self._user_id_type, in_order=self._every)
        await self._retries.open(self._cursor)
        self._registered = True

    async def _next(self) -> Sequence[Total]:
        """Return what to deliver now: what was handed over, or a page of the table."""
        self._page_complete = True
        if self._fresh:
            totals = self._fresh.popleft()
            self._fresh_size -= len(totals)
            self._dispatched = totals[-1].version
            return totals
        head = self._head  # as it is now: what is stored while the page is read may not be in it
        if self._cursor >= head:
            return ()
        totals = await self._backlog.after(self._cursor)
        self._page_complete = len(totals) < self._sink.max_batch
        self._dispatched = totals[-1].version if totals else head
        if not totals:
            self._cursor = head
        return totals

    async def _deliver_reading_on(self, totals: Sequence[Total], retries: Retries) -> None:
        if not self._backlog.ended_full(self._dispatched):
            await self._deliver(totals, retries)
            return
        work = (self._deliver(totals, retries), self._backlog.read_ahead())
        delivered, _ = await asyncio.gather(*work, return_exceptions=True)
        if isinstance(delivered, BaseException):
            raise delivered

    async def _deliver(self, totals: Sequence[Total], retries: Retries, *, again: bool = False) -> None:
        """Hand totals to the sink and settle what became of them; `again`, they are not next after the cursor."""
        held = set() if again else await retries.held(totals)
        for run in (apart if self._every else pieces)(totals, self._sink.max_batch):
            part = [total for total in run if total.user_id not in held] if held else run
            if not part:
                self._cursor = max(self._cursor, run[-1].version)
                await retries.load(self._cursor)
                continue
            part = self._event_cursor.owed(part, await retries.refused(part) if self._event_cursor.kept else {})
            try:
                refused = await self._sink.deliver(part)
            except SinkBusy as busy:
                if busy.through:
                    through = part[: busy.through]
                    await self._settle(through, busy.refused, retries, upto=through[-1].version, again=again)
                    self._backoff = Backoff()
                raise
            await self._settle(part, refused, retries, upto=run[-1].version, again=again)
            if self._every:
                held |= {rejection.total.user_id for rejection in refused}
            self._note_recovery()

    async def _settle(
        self,
        part: Sequence[Total],
        refused: Sequence[Rejection],
        retries: Retries,
        *,
        upto: int,
        again: bool,
    ) -> None:
        """Move the cursor over what is through, and keep what was refused."""
        log.debug("publisher.delivered", sink=self.name, totals=len(part), refused=len(refused))
        if not again and len(refused) == len(part) >= REFUSED_TOGETHER:
            raise SinkUnavailable(f"sink {self.name}: refuses every delivery, e.g. {refused[0].reason}")
        self._cursor = self._cursor if again else max(self._cursor, upto)
        self._delivered += len(part) - len(refused)
        self._settled(len(part) - len(refused), len(refused))
        if not again and len(refused) < len(part):
            self._arrived(part[0].version / 1_000_000)
        self._refusal = refused[0].reason if refused else ""
        if refused or retries.any:
            delivered, self._delivered = self._delivered, 0
            where = [self._event_cursor.position(each.total.user_id) for each in refused]
            after = self._event_cursor.after
            await retries.settle(
                part, refused, where, saved=self._saved, cursor=self._cursor, delivered=delivered, events_after=after
            )
            self._saved, self._after_saved = self._cursor, after
            if delivered == 0 and self._disable_after_seconds is not None:
                await self._save(anyway=True)
        missed = {each.total.user_id for each in refused}
        self._event_cursor.told([each for each in part if each.user_id not in missed] if missed else part)

    @property
    def _dirty(self) -> bool:
        return (self._cursor, self._event_cursor.after, self._error) != (
            self._saved,
            self._after_saved,
            self._error_saved,
        )

    async def _idle(self, retries: Retries) -> None:
        """Wait for a wakeup; meanwhile save what should be saved, and return to the refused in time."""
        waits = []
        if self._dirty:
            waits.append(max(0.0, self._saved_at + SAVE_SECONDS - time.monotonic()))
        if retries.due_seconds is not None:
            waits.append(retries.due_seconds)
        await self._pause(min(waits, default=None))

    async def _stumble(self, error: Exception) -> None:
        """Go back to the cursor, tell why, and wait as long as it takes to be worth another try."""
        self._return_to_cursor()
        if isinstance(error, SinkDisabled):
            self._disabling = str(error)
            return
        if isinstance(error, SinkUnavailable) and not isinstance(error, SinkBusy):
            self._opened = False  # probe before the page is read: it is to be the newest when the sink is back
        seconds = self._backoff.next(getattr(error, "retry_after_seconds", None))
        self._note_error(str(error), seconds)
        if isinstance(error, SinkUnavailable):
            await self._save_quietly(
                anyway=self._disable_after_seconds is not None
            )  # `status` tells why we stand still
        if self._disabling is None and not self._ending:
            await self._pause(seconds, deaf=True)

    async def _pause(self, seconds: float | None, *, deaf: bool = False) -> None:
        """Wait for a wakeup, at most so long; deaf, for the whole time, unless we are told something or are ending."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    await self._wakeup.wait()
                    self._wakeup.clear()
                    if not deaf or self._told or self._ending:
                        return

    async def _save(self, *, anyway: bool = False) -> None:
        if not self._registered or not (self._dirty or anyway):
            return
        state = {
            "name": self.name,
            "saved": self._saved,
            "cursor": self._cursor,
            "delivered": self._delivered,
            "last_error": self._error,
            "events_after": self._event_cursor.after,
        }
        async with borrowed(self._pool) as connection:
            found = await row(connection, sql_files.sql("queries/sink_saved"), state)
        self._saved_at, self._error_saved, self._delivered = time.monotonic(), self._error, 0
        if found is None:
            self._registered = False  # somebody has deleted the row
            return
        self._saved, self._after_saved = self._cursor, self._event_cursor.after
        self._obey(found)

    def _obey(self, found: Sequence[Any]) -> None:
        """Do as the sink's row says: its cursor, whether to stand still, how long nothing has arrived."""
        cursor, paused, disabled_reason, failing_seconds, events_after = found
        if cursor != self._saved:  # another daemon has moved it, or a person
            self._cursor = self._saved = cursor
            self._return_to_cursor()
            self._event_cursor.begin(events_after)
        halted = "paused" if paused else None
        if disabled_reason is not None:
            halted = f"disabled: {disabled_reason}"
        if halted != self._halted:
            self._note_halt(halted, disabled_reason)
        longest = self._disable_after_seconds
        if halted is None and longest is not None and failing_seconds is not None and failing_seconds >= longest:
            why = self._error or self._refusal or "for the reasons logged before"
            self._disabling = f"nothing has arrived for {failing_seconds:.0f} s: {why}"

    def _return_to_cursor(self) -> None:
        """Drop what was handed over or read ahead; the table has it."""
        self._forget_fresh()
        self._backlog.forget()
        self._dispatched = self._cursor
        self._page_complete = False

    async def _save_quietly(self, *, anyway: bool = False) -> None:
        """Save what can be saved; without it more is delivered again, which is harmless."""
        try:
            await self._save(anyway=anyway)
        except (DatabaseUnavailable, SchemaError) as error:
            log.warning("publisher.left_unsaved", sink=self.name, reason=str(error))

    def _forget_fresh(self) -> None:
        self._fresh.clear()
        self._fresh_size = 0

    def _note_halt(self, halted: str | None, disabled_reason: str | None) -> None:
        self._halted = halted
        self._backlog.forget()
        if disabled_reason is not None:
            hint = f"once it is meant to go on: creditsd sinks enable {self.name}"
            log.error("publisher.disabled", sink=self.name, reason=disabled_reason, hint=hint)
        elif halted is not None:
            log.info("publisher.halted", sink=self.name, reason=halted)
        else:
            self._backoff, self._error = Backoff(), None
            log.info("publisher.resumed", sink=self.name)

    def _note_error(self, error: str, seconds: float) -> None:
        say = log.warning if self._error is None else log.info
        self._error = error
        say("publisher.paused", sink=self.name, reason=error, next_try_seconds=round(seconds, 2))

    def _note_recovery(self) -> None:
        self._backoff = Backoff()
        if self._error is not None:
            log.info("publisher.recovered", sink=self.name)
        self._error = None
