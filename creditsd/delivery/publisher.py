"""Publishes totals to one sink, in the order of versions, resuming at its cursor; the same loop for every sink."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import assert_never

import structlog

from creditsd.delivery.backlog import Backlog, NewestTotals
from creditsd.delivery.event_cursor import EventCursor
from creditsd.delivery.guarded_sink import GuardedSink
from creditsd.delivery.handover import Handover, Superseded
from creditsd.delivery.history_backlog import HistoryBacklog
from creditsd.delivery.prober import Prober
from creditsd.delivery.publisher_state import (
    BackingOff,
    Delivering,
    Disabling,
    Halted,
    Leaving,
    Opening,
    Registering,
    Standby,
    State,
)
from creditsd.delivery.retries import Retries
from creditsd.delivery.sink_health import SinkHealth
from creditsd.delivery.sink_row import CursorMoved, SinkRow
from creditsd.delivery.timings import BOUNDS, TIMINGS, Bounds, Timings
from creditsd.delivery.tracer import Tracer
from creditsd.delivery.turn import CutShort, Turn
from creditsd.domain.backoff import Backoff
from creditsd.domain.delivery_attempt import DeliveryAttempt
from creditsd.domain.errors import DatabaseUnavailable, SchemaError, SinkUnavailable
from creditsd.domain.total import Total
from creditsd.postgres.connections import Pool
from creditsd.sinks import Sink, SinkDisabled, SinkStopped

log = structlog.get_logger()


class Publisher:
    """Tells one sink of each user's newest total, or of every step. A failure of sink or database pauses it."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        pool: Pool,
        arrived: Callable[[float], None] = lambda _: None,
        settled: Callable[[int, int], None] = lambda delivered, refused: None,  # noqa: ARG005  as it is called
        *,
        every: bool = False,
        tracer: Tracer | None = None,
        stalled: Callable[[], bool] = lambda: False,
        timings: Timings = TIMINGS,
        bounds: Bounds = BOUNDS,
    ) -> None:
        self._sink = GuardedSink(name, sink, tracer)
        self._timings = timings = timings.with_schedule(self._sink.retry_delays_seconds)
        self._row = SinkRow(name, pool)
        self._retries = Retries(name, pool, in_order=every, timings=timings, bounds=bounds)
        self._event_cursor = EventCursor(kept=self._sink.chooses_events)
        self._health = SinkHealth(name, timings, bounds)
        self._backlog = Backlog(HistoryBacklog(name, pool) if every else NewestTotals(pool), sink.max_batch, bounds)
        self._handover = Handover(
            pool=pool,
            sink=self._sink,
            sink_row=self._row,
            retries=self._retries,
            event_cursor=self._event_cursor,
            health=self._health,
            every=every,
            bounds=bounds,
            goes_on=lambda: self._goes_on() and not stalled(),
            arrived=arrived,
            settled=settled,
        )
        self._prober = Prober(self._sink, self._row, self._backlog, self._retries, self._health, self._handover)
        self._database_backoff = Backoff(timings.first_pause_seconds, timings.longest_pause_seconds)
        self._state: State = Standby()
        self._under_way: State = self._state
        self._turn = Turn()
        self._wakeup, self._ending = asyncio.Event(), False

    @property
    def name(self) -> str:
        """The sink's."""
        return self._row.name

    @property
    def cursor(self) -> int:
        """The version up to which everything has arrived, or waits for another try."""
        return self._row.cursor

    @property
    def behind(self) -> bool:
        """Whether something that is stored has not arrived."""
        return self._row.cursor < self._backlog.newest

    @property
    def error(self) -> str | None:
        """Why nothing arrives there, or None; it speaks of the sink alone."""
        return self._row.halted or self._health.error

    @property
    def halted(self) -> bool:
        """Whether nothing is to be delivered, because somebody said so or the sink is disabled."""
        return self._row.halted is not None

    @property
    def disabled_reason(self) -> str | None:
        """Why we stopped by ourselves; None where we did not."""
        return self._row.disabled_reason

    @property
    def failure(self) -> str | None:
        """Why the sink took nothing when it was last tried, whatever people decided since; None where it is well."""
        return self._health.error

    @property
    def refusing(self) -> bool:
        """Whether nothing has arrived of what was tried last."""
        return self._health.failing is not None

    @property
    def refusals(self) -> tuple[int, int] | None:
        """How many refused deliveries wait for another try, and how many are dead; None where too many to know."""
        return self._retries.counts

    def attempts(self) -> Sequence[DeliveryAttempt]:
        """Return what was sent since this was asked last."""
        return self._sink.attempts()

    def lead(self, newest: int) -> None:
        """Begin, or go on after another daemon may have led: the database knows how far the sink is."""
        if not isinstance(self._state, Standby):
            self.step_down()
        self._backlog.newest = newest
        self._enter(Registering())

    def step_down(self) -> None:
        """Hand everything back at once, also in the middle of a delivery: another daemon may lead from now on."""
        self._row.let_go()
        self._health.begin_anew()
        self._backlog.newest = 0
        self._rewind()
        self._enter(Standby())
        self._turn.cut_short()

    def offer(self, totals: Sequence[Total]) -> None:
        """Hand over totals just stored, in order. Never waits, never grows: who is behind reads the table."""
        if not isinstance(self._state, Standby):
            if self._sink.paced:
                self._handover.overtaken.offer(totals)
            if self._backlog.offer(totals):
                if not self._wakeup.is_set():
                    self._handover.begin(self._backlog.only)
                self._wakeup.set()

    def tell(self) -> None:
        """Look at once at the sink's row, which somebody has changed, and try whatever waits for a next try."""
        match self._state:
            case Standby() | Disabling() | Leaving():
                pass
            case BackingOff(then=Disabling() as then):
                self._enter(then)
            case _:
                self._enter(Registering())

    def poll(self) -> None:
        """Hear that the database is asked anyway: what no bell tells of is looked at now, if it is time."""
        if not self._look_due:
            return
        if isinstance(self._state, Halted):
            self._enter(Registering())
        elif isinstance(self._state, Delivering):
            self._wakeup.set()

    async def run(self) -> None:
        """Publish until told to end, and then what is left. A failure after that leaves the rest to the next start."""
        while not self._done:
            state = self._under_way = self._state
            following = await self._taken(state)
            if self._goes_on():
                self._state = following

    async def end(self) -> None:
        """Let `run` return once nothing waits, or what waits would have to wait for a turn."""
        self._ending = True
        self._sink.hurry()
        self._wakeup.set()

    def leave(self) -> None:
        """Let `run` return after the delivery that is under way; what is left waits for whoever has this name next."""
        self._ending = True
        self._enter(Leaving())
        self._sink.hurry()

    async def close(self) -> None:
        """Save the cursor and let go of the sink."""
        try:
            await self._save_quietly()
        finally:
            await self._sink.close()

    @property
    def _done(self) -> bool:
        waits = isinstance(self._state, Standby | Halted | BackingOff | Leaving)
        return self._ending and (waits or not self.behind)

    def _goes_on(self) -> bool:
        """Whether nothing else is to be done than what is under way."""
        return self._state is self._under_way

    @property
    def _look_due(self) -> bool:
        """Whether it is time to look at what people decide, where no bell tells of that."""
        look_seconds = self._timings.idle_look_seconds
        return look_seconds is not None and self._row.read_seconds >= look_seconds

    def _enter(self, state: State) -> None:
        self._state = state
        self._wakeup.set()

    async def _taken(self, state: State) -> State:
        """Take one turn, which `step_down` may end anywhere; return the state after it."""
        with contextlib.suppress(CutShort), self._turn.taken():
            return await self._tried(state)
        return state

    async def _tried(self, state: State) -> State:
        try:
            return await self._done_in(state)
        except SinkDisabled as error:
            self._rewind()
            return Disabling(str(error))
        except SinkUnavailable as error:
            return await self._after_failure(error, opening=isinstance(state, Opening))
        except CursorMoved:
            self._follow_row()
            return Registering()
        except Superseded:
            self._rewind()
            return state
        except (DatabaseUnavailable, SchemaError) as error:
            self._rewind()
            say = log.info if self._database_backoff.tries else log.warning
            seconds = self._database_backoff.next()
            say("publisher.interrupted", sink=self.name, reason=str(error), next_try_seconds=round(seconds, 2))
            return BackingOff(seconds, state if isinstance(state, Disabling) else Registering())

    async def _done_in(self, state: State) -> State:
        """Do what a state is for; return the next one."""
        match state:
            case Standby() | Leaving():
                await self._stay(None)
                following: State = state
            case Registering():
                following = await self._register()
            case Disabling(reason):
                await self._row.disable(reason)
                following = Registering()
            case Halted():
                await self._stay(None if self._timings.idle_look_seconds is not None else self._timings.look_seconds)
                following = Registering()
            case Opening():
                assert self._row.owner is not None
                await self._sink.open(self._row.owner)
                following = Delivering()
            case Delivering():
                following = await self._deliver(state)
            case BackingOff(seconds, then):
                await self._stay(seconds)
                following = then
            case _:
                assert_never(state)
        return following

    async def _register(self) -> State:
        if await self._row.register():
            self._follow_row()
        if self._row.halt_changed:
            self._row.say_halt()
            if self._row.halted is None:
                self._health.resumed()
        if self._row.halted is not None:
            return Halted()
        await self._retries.open(self._row.cursor)
        return Opening()

    async def _deliver(self, state: Delivering) -> State:
        """Try again what is due, deliver what is next, wait where there is nothing; save now and then."""
        if self._health.ill:
            await self._probe()
        else:
            if self._retries.due_seconds == 0.0:
                await self._handover.retry(await self._retries.due(self._sink.max_batch, self.cursor))
            totals = await self._backlog.next(self.cursor)
            proven = self._backlog.has_proof(self.cursor)
            await (self._hand_over(totals, proven=proven) if totals else self._idle())
        self._database_backoff.begin_anew()
        if not self.behind:
            self._handover.rewind()
        if self._backlog.caught_up(self.cursor):
            self._event_cursor.clear(self.cursor)
        if self._unsaved and self._row.saved_seconds >= self._timings.save_seconds:
            await self._row.save(self._event_cursor.after, self._health.error)
        return self._overdue() or (Registering() if self._look_due or self._row.halted is not None else state)

    async def _probe(self) -> None:
        """Try an ill sink with one total, and go on with the others where that arrives."""
        totals, proven = await self._prober.probe()
        await (self._hand_over(totals, proven=proven) if totals else self._idle())

    async def _hand_over(self, totals: Sequence[Total], *, proven: bool) -> None:
        """Deliver totals, and meanwhile read the page after them."""
        delivering = self._handover.deliver(totals, proven=proven)
        if not self._backlog.has_next_page:
            await delivering
            return
        failure, _ = await asyncio.gather(delivering, self._backlog.read_ahead(), return_exceptions=True)
        if failure is not None:
            raise failure

    async def _after_failure(self, error: SinkUnavailable, *, opening: bool) -> State:
        """Go back to the cursor, say why, and leave the sink alone for as long as it takes to be worth another try."""
        self._rewind()
        if isinstance(error, SinkStopped):  # because we end
            return BackingOff(0.0, Opening())
        seconds = self._health.failed(error, opening=opening)
        unsaved = self._unsaved or self._sink.disable_after_seconds is not None
        saved = not unsaved or await self._save_quietly()  # `status` tells why it stands still
        well = saved and self._row.halted is None
        return self._overdue() or BackingOff(seconds, Opening() if well else Registering())

    def _overdue(self) -> Disabling | None:
        """Whether nothing has arrived for so long that the sink is to be disabled."""
        longest, failing, why = self._sink.disable_after_seconds, self._row.failing_seconds, self._health.failing
        if longest is None or failing is None or failing < longest or why is None or self._row.halted is not None:
            return None
        return Disabling(f"nothing has arrived for {failing:.0f} s: {why}")

    async def _idle(self) -> None:
        """Wait for news; meanwhile save what should be saved, and return to the refused in time."""
        self._row.cursor = max(self.cursor, self._backlog.taken)  # nothing is stored between
        if self._ending:
            return
        waits = [max(0.0, self._timings.save_seconds - self._row.saved_seconds)] if self._unsaved else []
        if self._retries.due_seconds is not None:
            waits.append(self._retries.due_seconds)
        with self._handover.waiting():
            await self._wait(min(waits, default=None))

    async def _stay(self, seconds: float | None) -> None:
        """Wait for so long, whatever is stored meanwhile, unless another state takes the place of this one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._goes_on() and not self._ending:
                    await self._wait(None)

    async def _wait(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()
                self._wakeup.clear()

    @property
    def _unsaved(self) -> bool:
        return self._row.unsaved(self._event_cursor.after, self._health.error)

    async def _save_quietly(self) -> bool:
        """Save what can be saved, and return whether it is; without it more is delivered again, which is harmless."""
        try:
            try:
                await self._row.save(self._event_cursor.after, self._health.error)
            except CursorMoved:
                self._follow_row()
            if isinstance(self._state, Leaving):
                await self._row.leave()
        except (DatabaseUnavailable, SchemaError) as error:
            log.warning("publisher.left_unsaved", sink=self.name, reason=str(error))
            return False
        return True

    def _follow_row(self) -> None:
        """Go on where the row says."""
        self._rewind()
        self._event_cursor.begin(self._row.events_after)

    def _rewind(self) -> None:
        """Go back to the cursor; what was handed over until now is not certain to follow."""
        self._backlog.rewind(self.cursor)
        self._handover.rewind()
