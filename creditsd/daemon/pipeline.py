"""One leadership after another: drain, recompute, hand over to whoever publishes, rest."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import structlog

from creditsd.capture.change_reader import ChangeReader, Resumption
from creditsd.capture.doorbell import Doorbell
from creditsd.config import systemd
from creditsd.config.settings import Settings
from creditsd.domain.total import Total
from creditsd.metrics.counters import LineCounters
from creditsd.metrics.rates import Rates
from creditsd.postgres.connections import Connection
from creditsd.totals.recompute import Recomputer

log = structlog.get_logger()

DaemonState = Literal["starting", "standby", "backfilling", "leading", "disconnected", "stopping"]
BackfillProgress = Callable[[int, int, bool], None]  # users done, users in all (about), whether it is over

CURSOR_SAVE_SECONDS = 1.0
STUCK_SECONDS = 600.0  # a page of users may take minutes where the table has no index; a lost server is noticed sooner

# What a crash or a failover may have taken back after it was published: an asynchronous commit is lost within a
# second, an asynchronous standby may be further behind.
RECENT_SECONDS = 300.0
RECENT_USERS = 30_000


class Receiver(Protocol):
    """Whoever is handed what was stored. Takes it without waiting."""

    def lead(self, newest: int, user_id_type: str) -> None:
        """Hear that a leadership begins, and which version is the newest stored."""

    def offer(self, totals: Sequence[Total]) -> None:
        """Take totals just stored, in order."""


@dataclass(slots=True)
class Stages:
    """What one leadership consists of; ends with its connections."""

    leader: Connection
    user_id_type: str
    change_reader: ChangeReader
    recomputer: Recomputer
    doorbell: Doorbell


class Pipeline:
    """Turns the line while its stages are there. Every step re-reads the truth, so it may be interrupted anywhere."""

    def __init__(
        self, settings: Settings, receivers: Sequence[Receiver], progress: BackfillProgress | None, rates: Rates
    ) -> None:
        self._settings = settings
        self._rates = rates
        self._receivers = receivers
        self._progress = progress
        self._recent: OrderedDict[str, float] = OrderedDict()  # when users were last published, the longest ago first
        self._resyncing: str | None = None
        self._backfilled = 0
        self._users: int | None = None
        self._turned_at = time.monotonic()
        self._ending = False
        self.state: DaemonState = "starting"
        self.counters = LineCounters()

    @property
    def alive(self) -> bool:
        """Whether the line turns, or waits on purpose; a restart would not bring PostgreSQL back any sooner."""
        return time.monotonic() - self._turned_at < STUCK_SECONDS

    def turned(self) -> None:
        """Note that the line turns."""
        self._turned_at = time.monotonic()

    def end(self) -> None:
        """Let `lead` return after the turn it is in."""
        self._ending = True

    async def lead(self, stages: Stages) -> None:
        """Drain, and rest, until the end or until a connection is lost."""
        resumption = await stages.change_reader.resume()
        log.info("daemon.led", resyncing=resumption.resyncing, restarted=resumption.restarted)
        for receiver in self._receivers:
            receiver.lead(resumption.newest, stages.user_id_type)
        if resumption.restarted:
            await self._republish(stages, resumption)
        self._enter(resumption.resyncing)
        partitions = resumption.partitions
        saved_at = time.monotonic()
        while not self._ending:
            began = self._turned_at = time.monotonic()
            if stages.doorbell.due_for_proof():
                beat = await stages.doorbell.prove(stages.leader)
                if beat["partitions"] != partitions:
                    partitions = (await stages.change_reader.resume()).partitions
            page = await self._turn(stages)
            if stages.change_reader.unsaved and began - saved_at > CURSOR_SAVE_SECONDS:
                await stages.change_reader.save()
                saved_at = began
            if page["full"] or self._resyncing is not None:
                continue
            await stages.doorbell.heed_queue(stages.leader, read=page["changes"])
            await stages.doorbell.rest(
                read=page["changes"],
                worked_seconds=time.monotonic() - began,
                due_seconds=_sooner(page["due_seconds"], CURSOR_SAVE_SECONDS if stages.change_reader.unsaved else None),
            )
        await stages.change_reader.save()

    async def _turn(self, stages: Stages) -> dict[str, Any]:
        """Do a batch of what there is: changes, then a page of a resync, then those whose time has come.

        Returns the drained page, with `due_seconds` as it is after all three.
        """
        limit = self._settings.max_batch_users
        began = time.monotonic()
        drained = await stages.change_reader.drain(limit)
        self._rates.read(drained.page["changes"])
        page = drained.page
        self.counters.drained(changes=page["changes"], users=page["users"], seconds=time.monotonic() - began)
        self._publish(drained.totals)
        await asyncio.sleep(0)  # whoever was handed them goes first
        if page["resyncing"] != self._resyncing:
            self._enter(page["resyncing"])
        if self._resyncing is not None:
            found = await stages.recomputer.resync_next(limit)
            self._publish(found.totals)
            await self._show_progress(stages, int(found.page["users"]), over=found.page["done"])
            page["due_seconds"] = found.page["due_seconds"]
            if found.page["done"]:
                self._enter(None)
        if page["due_seconds"] is not None and page["due_seconds"] <= 0:
            recomputed = await stages.recomputer.recompute_due(limit)
            self._publish(recomputed.totals)
            page["due_seconds"] = recomputed.page["due_seconds"]
        return page

    async def _show_progress(self, stages: Stages, users: int, *, over: bool) -> None:
        self._backfilled += users
        if self._progress is None:
            return
        if self._users is None:
            self._users = await stages.recomputer.count_users()
        self._progress(self._backfilled, self._users, over)

    def _enter(self, resyncing: str | None) -> None:
        """Begin or end recomputing everyone, for a cause."""
        self._resyncing = resyncing
        if resyncing is not None:
            log.info("balances.resync_begun", cause=resyncing)
            self._backfilled, self._users = 0, None
            self.state = "backfilling"
            return
        if self.state == "backfilling":
            log.info("balances.resync_done", users=self._backfilled)
        self.state = "leading"
        systemd.ready("leading")

    async def _republish(self, stages: Stages, resumption: Resumption) -> None:
        """Publish again, with new versions, whoever was published in the last minutes before the server went away.

        That is when the newest total was made, however long the server was gone after it.
        """
        started_at = datetime.fromisoformat(resumption.started_at).timestamp()
        since = int(min(started_at * 1_000_000, resumption.newest) - RECENT_SECONDS * 1_000_000)
        users = [*self._recent, *await stages.recomputer.recently_published(since, RECENT_USERS)]
        users = list(dict.fromkeys(users))
        for start in range(0, len(users), self._settings.max_batch_users):
            self._turned_at = time.monotonic()
            part = users[start : start + self._settings.max_batch_users]
            self._publish((await stages.recomputer.recompute(part, cause="repair", republish=True)).totals)
        await stages.recomputer.settle(timeline=resumption.timeline, started_at=resumption.started_at)
        log.warning("balances.republished", users=len(users), reason="the server restarted or failed over")

    def _publish(self, totals: Sequence[Total]) -> None:
        if not totals:
            return
        self._rates.published(len(totals))
        for receiver in self._receivers:
            receiver.offer(totals)
        now = time.monotonic()
        for total in totals:
            self.counters.totals[total.cause] += 1
            self._recent[total.user_id] = now
            self._recent.move_to_end(total.user_id)
        # Not a dict: in one that loses its first item again and again, finding the next takes longer each time.
        while len(self._recent) > RECENT_USERS or next(iter(self._recent.values())) < now - RECENT_SECONDS:
            self._recent.popitem(last=False)


def _sooner(one: float | None, other: float | None) -> float | None:
    times = [float(each) for each in (one, other) if each is not None]
    return min(times, default=None)
