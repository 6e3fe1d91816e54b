"""The composition root: opens everything, knows the order of the stages, and is the only place that creates tasks."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import structlog

from creditsd import database, queries, schema, supervisor
from creditsd.balances import Balances
from creditsd.changes import Changes, Resumption
from creditsd.database import Connection, connected, row
from creditsd.doorbell import Doorbell
from creditsd.errors import ConfigError, CreditsdError, DatabaseUnavailable, SchemaError
from creditsd.live import Live
from creditsd.model import Total
from creditsd.publisher import Backoff, Publisher
from creditsd.schema import Installation
from creditsd.settings import Settings
from creditsd.sinks import Sink, make

log = structlog.get_logger()

State = Literal["starting", "standby", "backfilling", "leading", "disconnected", "stopping"]
Progress = Callable[[int, int, bool], None]  # users done, users in all (about), whether it is over

STANDBY_SECONDS = 1.0
CURSOR_SAVE_SECONDS = 1.0
PURGE_SECONDS = 1.0
PURGE_CHANGES = 5000
CLOSE_SECONDS = 1.0  # to save the cursors, where everything else has taken all the time there was
CANCEL_SECONDS = 0.2
STUCK_SECONDS = 600.0  # a page of users may take minutes where the table has no index; a lost server is noticed sooner
MENDING_SECONDS = 5.0  # between looks at a schema that somebody has to mend

# What a crash or a failover may have taken back after it was published: an asynchronous commit is lost within a
# second, an asynchronous standby may be further behind.
RECENT_SECONDS = 300.0
RECENT_USERS = 30_000


@dataclass(slots=True)
class Stages:
    """What one leadership consists of; ends with its connections."""

    leader: Connection
    user_id_type: str
    changes: Changes
    balances: Balances
    doorbell: Doorbell


class Daemon:
    """The line from the user's table to every sink. Losing PostgreSQL or a sink only pauses it; a bug ends it."""

    def __init__(
        self, settings: Settings, *, progress: Progress | None = None, extra: Sequence[tuple[str, Sink]] = ()
    ) -> None:
        self._settings = settings
        self._progress = progress
        self._pool = database.pool(settings.dsn, purpose="publisher", max_size=4, shared=bool(settings.listen_dsn))
        sinks = [*((each.name, make(each)) for each in settings.sinks), *extra]
        self._publishers = [Publisher(name, sink, self._pool) for name, sink in sinks]
        self._stages: Stages | None = None
        self._stopping = asyncio.Event()
        self._recent: dict[str, float] = {}  # users and when they were last published, the longest ago first
        self._resyncing: str | None = None
        self._backfilled = 0
        self._users: int | None = None
        self._turned_at = time.monotonic()
        self.state: State = "starting"

    async def run(self) -> None:
        """Run until `stop` or a signal; then close the line from its head, within `shutdown_seconds`.

        Raises ConfigError, SchemaError or DatabaseUnavailable when the first start cannot succeed; after that it waits
        and tries again.
        """
        try:
            async with self._pool, Live(self._settings.http, self.health), asyncio.TaskGroup() as tasks:
                for number in (signal.SIGINT, signal.SIGTERM):
                    asyncio.get_running_loop().add_signal_handler(number, self.stop)
                publishing = [tasks.create_task(each.run(), name=f"publisher {each.name}") for each in self._publishers]
                beside = [tasks.create_task(supervisor.keep_alive(self._alive)), tasks.create_task(self._purge())]
                line = tasks.create_task(self._line(), name="line")
                try:
                    await self._stopping.wait()
                    supervisor.stopping()
                    await self._shut_down(line, publishing)
                finally:  # a bug in one of them, too: the group itself would cancel the others only once
                    await _ended([line, *publishing, *beside])
        except* CreditsdError as group:
            raise _first(group) from None

    def stop(self) -> None:
        """Begin to end; safe to call more than once, and from a signal."""
        self._stopping.set()
        if self._stages is not None:
            self._stages.doorbell.stir()

    def health(self) -> dict[str, object]:
        """Say how the daemon is, for /livez and /readyz."""
        return {
            "state": self.state,
            "ready": self.state in ("leading", "standby"),
            "alive": self._alive(),
            "doorbell": self._stages.doorbell.state if self._stages is not None else None,
            "sinks": {each.name: each.error or ("behind" if each.behind else "current") for each in self._publishers},
        }

    def _tell(self, payload: str) -> None:
        """Pass on what a command has rung."""
        if payload == "sinks":
            for publisher in self._publishers:
                publisher.tell()

    def _alive(self) -> bool:
        """Whether the line turns, or waits on purpose; a restart would not bring PostgreSQL back any sooner."""
        return time.monotonic() - self._turned_at < STUCK_SECONDS

    async def _line(self) -> None:
        """Lead, or stand by, again and again until the end."""
        backoff = Backoff()
        started = False
        while not self._stopping.is_set():
            self._turned_at = time.monotonic()
            try:
                async with connected(self._settings.listen_dsn or self._settings.dsn, purpose="leader") as leader:
                    installation = await schema.missing(leader, self._settings)
                    started, backoff = True, Backoff()
                    if await self._take_leadership(leader):
                        async with self._staged(leader, installation) as stages:
                            await self._lead(stages)
            except* (DatabaseUnavailable, SchemaError, ConfigError) as group:
                error = _first(group)
                if not started:
                    raise error from None
                self.state = "disconnected"
                seconds = backoff.next(None if isinstance(error, DatabaseUnavailable) else MENDING_SECONDS)
                say = log.warning if isinstance(error, DatabaseUnavailable) else log.error
                say("daemon.interrupted", reason=str(error), next_try_seconds=round(seconds, 2))
                supervisor.status(f"waiting: {error}")
                await self._wait(seconds)
        self.state = "stopping"

    async def _take_leadership(self, leader: Connection) -> bool:
        """Wait until no other daemon leads; False when we are to end before that."""
        while not self._stopping.is_set():
            self._turned_at = time.monotonic()
            found = await row(leader, queries.sql("queries/leadership_taken"))
            if found is not None and found[0]:
                return True
            if self.state != "standby":
                log.info("daemon.stood_by", reason="another daemon leads")
                self.state = "standby"
                supervisor.ready("standing by")
            await self._wait(STANDBY_SECONDS)
        return False

    @asynccontextmanager
    async def _staged(self, leader: Connection, installation: Installation) -> AsyncIterator[Stages]:
        """Open what leading takes, and end it as one when any connection is lost."""
        settings = self._settings
        dsn = settings.listen_dsn or settings.dsn
        policy = {
            "user_id_type": installation.user_id_type,
            "can_buy": settings.can_buy,
            "expire_empty": settings.expire_empty,
        }
        polls = settings.wakeup == "poll"
        async with AsyncExitStack() as stack:
            listener = await stack.enter_async_context(connected(dsn, purpose="doorbell"))
            keeper = await stack.enter_async_context(connected(dsn, purpose="sleep"))
            doorbell = Doorbell(
                listener,
                keeper,
                polls=polls,
                poll_seconds=settings.poll_seconds,
                busy_poll_seconds=settings.busy_poll_seconds,
                told=self._tell,
            )
            if not polls:
                await doorbell.listen()
            stages = Stages(
                leader,
                installation.user_id_type,
                Changes(leader, digest=installation.digest, **policy),
                Balances(leader, **policy),
                doorbell,
            )
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            beside = [tasks.create_task(doorbell.keeping())]
            if not polls:
                beside.append(tasks.create_task(doorbell.listening()))
            self._stages = stages
            try:
                yield stages
            finally:
                self._stages = None
                await _ended(beside)

    async def _lead(self, stages: Stages) -> None:
        """Drain, and rest, until the end. Every step re-reads the truth, so it may be interrupted anywhere."""
        resumption = await stages.changes.resume()
        log.info("daemon.led", resyncing=resumption.resyncing, restarted=resumption.restarted)
        for publisher in self._publishers:
            publisher.lead(resumption.newest, stages.user_id_type)
        if resumption.restarted:
            await self._republish(stages, resumption)
        self._enter(resumption.resyncing)
        partitions = resumption.partitions
        saved_at = time.monotonic()
        while not self._stopping.is_set():
            began = self._turned_at = time.monotonic()
            if stages.doorbell.due_for_proof():
                beat = await stages.doorbell.prove(stages.leader)
                if beat["partitions"] != partitions:
                    partitions = (await stages.changes.resume()).partitions
            page = await self._turn(stages)
            if stages.changes.unsaved and began - saved_at > CURSOR_SAVE_SECONDS:
                await stages.changes.save()
                saved_at = began
            if page["full"] or self._resyncing is not None:
                continue
            await stages.doorbell.rest(
                read=page["changes"],
                worked_seconds=time.monotonic() - began,
                due_seconds=_sooner(page["due_seconds"], CURSOR_SAVE_SECONDS if stages.changes.unsaved else None),
            )
        await stages.changes.save()

    async def _turn(self, stages: Stages) -> dict[str, Any]:
        """Do a batch of what there is: changes, then a page of a resync, then those whose time has come.

        Returns the drained page, with `due_seconds` as it is after all three.
        """
        limit = self._settings.max_batch_users
        drained = await stages.changes.drain(limit)
        self._publish(drained.totals)
        page = drained.page
        if page["resyncing"] != self._resyncing:
            self._enter(page["resyncing"])
        if self._resyncing is not None:
            found = await stages.balances.resync_next(limit)
            self._publish(found.totals)
            await self._show_progress(stages, int(found.page["users"]), over=found.page["done"])
            page["due_seconds"] = found.page["due_seconds"]
            if found.page["done"]:
                self._enter(None)
        if page["due_seconds"] is not None and page["due_seconds"] <= 0:
            recomputed = await stages.balances.recompute_due(limit)
            self._publish(recomputed.totals)
            page["due_seconds"] = recomputed.page["due_seconds"]
        return page

    async def _show_progress(self, stages: Stages, users: int, *, over: bool) -> None:
        self._backfilled += users
        if self._progress is None:
            return
        if self._users is None:
            self._users = await stages.balances.count_users(self._settings.source)
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
        supervisor.ready("leading")

    async def _republish(self, stages: Stages, resumption: Resumption) -> None:
        """Publish again, with new versions, whoever was published in the last minutes before the server went away.

        That is when the newest total was made, however long the server was gone after it.
        """
        started_at = datetime.fromisoformat(resumption.started_at).timestamp()
        since = int(min(started_at * 1_000_000, resumption.newest) - RECENT_SECONDS * 1_000_000)
        users = [*self._recent, *await stages.balances.recently_published(since, RECENT_USERS)]
        users = list(dict.fromkeys(users))
        for start in range(0, len(users), self._settings.max_batch_users):
            self._turned_at = time.monotonic()
            part = users[start : start + self._settings.max_batch_users]
            self._publish((await stages.balances.recompute(part, cause="repair", republish=True)).totals)
        await stages.balances.settle(timeline=resumption.timeline, started_at=resumption.started_at)
        log.warning("balances.republished", users=len(users), reason="the server restarted or failed over")

    def _publish(self, totals: Sequence[Total]) -> None:
        if not totals:
            return
        for publisher in self._publishers:
            publisher.offer(totals)
        now = time.monotonic()
        for total in totals:
            self._recent.pop(total.user_id, None)
            self._recent[total.user_id] = now
        while len(self._recent) > RECENT_USERS or next(iter(self._recent.values())) < now - RECENT_SECONDS:
            del self._recent[next(iter(self._recent))]

    async def _purge(self) -> None:
        """Delete what is read, in the background and in bounded steps."""
        position, of = None, None
        while True:
            stages = self._stages
            if stages is not of:
                position, of = None, stages  # a position means nothing to another server
            try:
                if stages is not None and (position or stages.changes.unpurged):
                    async with database.borrowed(self._pool) as connection:
                        position = await stages.changes.purge(connection, PURGE_CHANGES, position)
            except (DatabaseUnavailable, SchemaError) as error:
                log.debug("changes.purge_interrupted", reason=str(error))
            await asyncio.sleep(0 if position else PURGE_SECONDS)

    async def _shut_down(self, line: asyncio.Task[None], publishing: Sequence[asyncio.Task[None]]) -> None:
        """End from the head, and let what is stored arrive, in a bounded time; the rest resumes at its cursor."""
        deadline = time.monotonic() + self._settings.shutdown_seconds
        await _ended([line], deadline)
        for publisher in self._publishers:
            await publisher.end()
        await _ended(publishing, deadline)
        for publisher in self._publishers:
            if publisher.behind:
                log.warning("publisher.left_behind", sink=publisher.name, reason=publisher.error or "out of time")
        closing = [asyncio.create_task(publisher.close()) for publisher in self._publishers]
        await _ended(closing, max(deadline, time.monotonic() + CLOSE_SECONDS))
        log.info("daemon.stopped")

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _sooner(one: float | None, other: float | None) -> float | None:
    times = [float(each) for each in (one, other) if each is not None]
    return min(times, default=None)


async def _ended(tasks: Sequence[asyncio.Task[None]], deadline: float = 0.0) -> None:
    """Wait for tasks until a deadline, then cancel them until they have ended.

    Once is not enough: the driver waits for the server first, which may never answer, and its pool may swallow it.
    """
    if tasks and (seconds := deadline - time.monotonic()) > 0:
        await asyncio.wait(tasks, timeout=seconds)
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_SECONDS)


def _first(group: BaseExceptionGroup[BaseException]) -> CreditsdError:
    """Return the first error of a group; the others are its echoes."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, CreditsdError)
    return error
