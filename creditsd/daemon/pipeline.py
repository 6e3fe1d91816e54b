"""The work loop of whoever leads: drain, recompute, hand over to whoever publishes, rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from creditsd.capture.change_reader import ChangeReader, Resumption
from creditsd.config.settings import Settings
from creditsd.daemon.backfill import Backfill
from creditsd.daemon.lag import Lag
from creditsd.daemon.leadership import Leadership
from creditsd.daemon.polls import Polls
from creditsd.daemon.server_clock import ServerClock
from creditsd.daemon.state import DaemonState, StateName
from creditsd.domain.errors import DatabaseUnavailable
from creditsd.domain.total import Total
from creditsd.metrics.counters import LineMetrics
from creditsd.metrics.rates import Rates
from creditsd.postgres import sql_files
from creditsd.postgres.connections import check_own, check_there, row, woken_by
from creditsd.schema.watch import TableWatch
from creditsd.totals.republish import RecentlyPublished

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Timings:
    """How often the cursor is saved, and by how much the server's clock may go back without anybody looking again."""

    cursor_save_seconds: float = 1.0
    clock_tolerance_seconds: float = 1.0


class Receiver(Protocol):
    """Whoever is handed what was stored. Takes it without waiting."""

    def offer(self, totals: Sequence[Total]) -> None:
        """Take totals just stored, in order."""


class Pipeline:
    """Works for one leadership after another. Every step re-reads the truth, so it may be interrupted anywhere."""

    def __init__(
        self,
        settings: Settings,
        receivers: Callable[[], Iterable[Receiver]],
        state: DaemonState,
        *,
        backfill: Backfill,
        rates: Rates,
        metrics: LineMetrics,
        recent: RecentlyPublished,
        watch: TableWatch,
        polls: Polls,
        timings: Timings,
    ) -> None:
        self._settings = settings
        self._receivers = receivers
        self._state = state
        self._backfill = backfill
        self._rates = rates
        self._metrics = metrics
        self.recent = recent
        self.watch = watch
        self.polls = polls
        self._timings = timings
        self._clock = ServerClock(timings.clock_tolerance_seconds)
        self._ending = False
        self._said_coarse = False
        self._lag = Lag()
        self.leadership: Leadership | None = None

    @property
    def state(self) -> StateName:
        """What the daemon is doing now."""
        return self._state.now

    @property
    def doorbell(self) -> str | None:
        """What it is doing about waking; None where it does not lead."""
        return self.leadership.doorbell.state if self.leadership is not None else None

    @property
    def rings(self) -> bool:
        """Whether it is to be woken by a bell."""
        return self._settings.wakeup == "doorbell"

    @property
    def behind_seconds(self) -> float:
        """How old the oldest change may be that is not recomputed yet, since we lead; 0 where all of them are."""
        return 0.0 if self.leadership is None else self._lag.seconds(busy=self._state.busy_seconds > 0)

    @property
    def snapshot(self) -> str | None:
        """The cursor of the reader; None where it does not lead."""
        return self.leadership.change_reader.snapshot if self.leadership is not None else None

    @property
    def table_watched(self) -> bool:
        """Whether every change of the table is seen, as far as is known."""
        return not self.watch.divergences

    def end(self) -> None:
        """Let `lead` return after the turn it is in."""
        self._ending = True
        if self.leadership is not None:
            self.leadership.doorbell.end_rest()

    def stand_by(self) -> None:
        """Hear that another daemon leads: it says what must be mended of the table, and we no more.

        Between two leaderships of our own we say it still, for it may be why the first one was lost.
        """
        self.recent.stand_by()
        self.watch.end()
        self._note_divergences()

    async def lead(self, leadership: Leadership, resumption: Resumption) -> None:
        """Drain, and rest, until the end or until a connection is lost; save the cursor at the end."""
        log.info("daemon.led", resyncing=resumption.resyncing, restarted=resumption.restarted)
        if resumption.coarse and not self._said_coarse:
            self._said_coarse = True
            log.warning(
                "daemon.server_identified_coarsely",
                reason="pg_control_system or pg_current_wal_insert_lsn is refused: a failover is known by its restart",
            )
        self.leadership, self._clock = leadership, ServerClock(self._timings.clock_tolerance_seconds)
        self._lag.begin()
        self.watch.begin()
        resyncing = resumption.resyncing
        try:
            if resumption.restarted or self.recent.lost_by(resumption.highest):
                resyncing = await self._republish(leadership, resumption) or resyncing
            self.recent.lead(resumption.highest)
            self._enter(resyncing)
            await self._work(leadership)
            await leadership.change_reader.save()
        finally:
            self.leadership = None
            self._metrics.queue_usage.set(0)
            self._state.rest()

    async def _work(self, leadership: Leadership) -> None:
        reader, bell = leadership.change_reader, leadership.doorbell
        saved_at, save_seconds = time.monotonic(), self._timings.cursor_save_seconds
        while not self._ending:
            self._state.work()
            self.polls.begin()
            began = time.monotonic()
            if bell.heartbeat_due:
                await check_own(leadership.session)
                beat = await bell.heartbeat(leadership.session)
                self._metrics.queue_usage.set(float(beat["queue_usage"]))
            if self.watch.due_seconds <= 0:
                await self._look(leadership)
            page = await self._turn(leadership)
            if self._unsaved(reader) and began - saved_at > save_seconds:
                await self._save(reader)
                saved_at = began
            if page["full"] or self._backfill.cause is not None:
                continue
            await bell.heed_queue(leadership.session, read=page["changes"])
            due_seconds = _soonest(page["due_seconds"], save_seconds if self._unsaved(reader) else None)
            await self._rest(leadership, page["changes"], time.monotonic() - began, due_seconds)

    def _unsaved(self, reader: ChangeReader) -> bool:
        """Whether the cursor is to be saved or, where the server may be suspended, what was published be flushed."""
        return reader.unsaved or (self.polls.gather and self.recent.unflushed)

    async def _save(self, reader: ChangeReader) -> None:
        """Save the cursor; where we poll, so that no end of the server can take back what was published.

        Otherwise whoever was told last would be told again after each suspension.
        """
        highest = self.recent.highest
        await reader.save(flush=self.polls.gather)
        if self.polls.gather:
            self.recent.flushed(highest)

    async def _rest(self, leadership: Leadership, read: int, worked_seconds: float, due_seconds: float | None) -> None:
        """Wait until there may be something to do.

        Where we poll, the table is looked at with a poll; and whoever leads no more, since a server that is suspended
        ended the session, notices at once, but connects again no sooner than it would have asked.
        """
        bell, session = leadership.doorbell, leadership.session
        self._state.rest(self.polls.seconds)
        if not self.polls.gather:
            due_seconds = _soonest(due_seconds, self.watch.due_seconds)
        again_at = time.monotonic() + (_soonest(due_seconds, self.polls.seconds) or 0.0)
        with woken_by(session, bell.end_rest):
            await bell.rest(read=read, worked_seconds=worked_seconds, due_seconds=due_seconds)
        if self.polls.gather and not self._ending:
            await check_there(session, again_at)

    async def _look(self, leadership: Leadership) -> None:
        """Look whether every change of the table is seen, and begin a resync where the table has changed.

        Raises DatabaseUnavailable where a dump was restored under us: then every lock must be taken anew.
        """
        if await self.watch.look(leadership.session):
            resumption = await leadership.change_reader.resume(floor_version=self.recent.highest)
            if self.recent.lost_by(resumption.highest):
                await self._republish(leadership, resumption)
        self._note_divergences()
        leads = await row(leadership.session, sql_files.sql("queries/still_leading"))
        if leads is None or not leads[0]:
            raise DatabaseUnavailable("the tables of creditsd were made anew: its locks are others now")

    def _note_divergences(self) -> None:
        self._state.note("table", "; ".join(str(each) for each in self.watch.divergences), logged=True)

    async def _turn(self, leadership: Leadership) -> dict[str, Any]:
        """Do a batch of what there is: changes, then a page of a resync, then those whose time has come.

        Returns the drained page, with `due_seconds` as it is after all three.
        """
        limit, recomputer = self._settings.max_batch_users, leadership.recomputer
        began = time.monotonic()
        drained = await leadership.change_reader.drain(limit)
        ended, page = time.monotonic(), drained.page
        self._hand_over(drained.totals)  # first, for somebody waits for them
        self._lag.note(began, full=page["full"])
        self._rates.read(page["changes"])
        self._metrics.drained(
            changes=page["changes"], users=page["users"], totals=drained.totals, seconds=ended - began
        )
        await asyncio.sleep(0)  # whoever was handed them goes first
        if self._clock.went_back(float(page["clock"]), asked_at=began, answered_at=ended):
            page["resyncing"] = "clock went back"
            await recomputer.begin_resync(page["resyncing"], republish=False)
        if page["resyncing"] != self._backfill.cause:
            self._enter(page["resyncing"])
        if self._backfill.cause is not None:
            page["due_seconds"] = await self._resync(leadership)
        if page["due_seconds"] is not None and page["due_seconds"] <= 0:
            recomputed = await recomputer.recompute_due(limit)
            self._hand_over(recomputed.totals)
            page["due_seconds"] = recomputed.page["due_seconds"]
        return page

    async def _resync(self, leadership: Leadership) -> float | None:
        """Recompute a page of everyone; return in how many seconds time alone changes a total."""
        recomputer = leadership.recomputer
        found = await recomputer.resync_next(self._settings.max_batch_users)
        self._hand_over(found.totals)
        page = found.page
        await self._backfill.add(int(page["users"]), over=page["done"], count=recomputer.count_users)
        if page["done"]:
            self._enter(None)
        due_seconds: float | None = page["due_seconds"]
        return due_seconds

    def _enter(self, resyncing: str | None) -> None:
        """Begin or end recomputing everyone, for a cause."""
        if resyncing is not None:
            self._backfill.begin(resyncing)
            self._state.enter("backfilling")
            return
        self._backfill.end()
        self._state.enter("leading")

    async def _republish(self, leadership: Leadership, resumption: Resumption) -> str | None:
        """Publish again, with new versions, whoever the server may have lost; return the cause where that is everyone.

        Where it failed over, or is known to have lost something (a failover's, or by a restored dump), and we do not
        remember whom, nobody does.
        """
        recomputer, size, highest = leadership.recomputer, self._settings.max_batch_users, resumption.highest
        suspicious = resumption.failed_over or self.recent.lost_by(highest)
        everyone = suspicious and not self.recent.remembers_after(highest)
        users = await self.recent.users(
            recomputer,
            started_at=resumption.started_at,
            highest=highest,
            same_disk=not (resumption.failed_over or resumption.coarse),
        )
        for start in range(0, len(users), size):
            self._state.turned()
            part = users[start : start + size]
            self._hand_over((await recomputer.recompute(part, cause="repair", republish=True)).totals)
        if everyone:  # said first: once it is stored, whoever takes over from a lost connection knows of no failover
            log.warning(
                "balances.republishing_everyone",
                reason="the server failed over, and may have lost more than this daemon remembers having published",
            )
            await recomputer.begin_resync("failover", republish=True)
        else:
            say = log.warning if users else log.info
            say("balances.republished", users=len(users), reason="the server restarted, failed over or was restored")
        await recomputer.settle(timeline=resumption.timeline, started_at=resumption.started_at)
        return "failover" if everyone else None

    def _hand_over(self, totals: Sequence[Total]) -> None:
        """Hand totals that are stored to whoever publishes them."""
        if not totals:
            return
        for receiver in self._receivers():
            receiver.offer(totals)
        self.recent.add(totals)
        self._rates.published(len(totals))
        self._metrics.stored(totals)


def _soonest(*seconds: float | None) -> float | None:
    return min((float(each) for each in seconds if each is not None), default=None)
