"""The composition root: opens everything, knows the order of the stages, and is the only place that creates tasks."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from creditsd.capture.change_reader import ChangeReader
from creditsd.capture.doorbell import Doorbell
from creditsd.config import systemd
from creditsd.config.settings import Settings
from creditsd.daemon.pipeline import BackfillProgress, DaemonState, Pipeline, Stages
from creditsd.delivery.publisher import Publisher
from creditsd.domain.backoff import Backoff
from creditsd.domain.errors import ConfigError, CreditsdError, DatabaseUnavailable, SchemaError
from creditsd.http.database_source import DatabaseSource
from creditsd.http.operator import PageBeside
from creditsd.http.operator.backend import Backend
from creditsd.http.operator.recent_totals import RecentTotals
from creditsd.http.operator.routes import OperatorRoutes
from creditsd.http.server import HttpServer, Part
from creditsd.metrics.collectors import DaemonCollector
from creditsd.metrics.counters import LineMetrics, SinksMetrics
from creditsd.metrics.rates import Rates
from creditsd.metrics.registry import registry as metrics
from creditsd.postgres import connections, sql_files
from creditsd.postgres.connections import Connection, connected, row
from creditsd.schema import install as schema
from creditsd.schema.install import Installation
from creditsd.sinks import Sink, make
from creditsd.totals.history_partitions import HistoryPartitions
from creditsd.totals.recompute import Recomputer

log = structlog.get_logger()

STANDBY_SECONDS = 1.0
PURGE_SECONDS = 1.0
PURGE_CHANGES = 5000
TIDY_SECONDS = 600.0
LOOKUPS = 2  # at the same time, so that one that takes long does not keep all others waiting
CLOSE_SECONDS = 1.0  # to save the cursors, where everything else has taken all the time there was
CANCEL_SECONDS = 0.2
MENDING_SECONDS = 5.0  # between looks at a schema that somebody has to mend


class Daemon:
    """The line from the user's table to every sink. Losing PostgreSQL or a sink only pauses it; a bug ends it."""

    def __init__(
        self,
        settings: Settings,
        *,
        progress: BackfillProgress | None = None,
        extra: Sequence[tuple[str, Sink]] = (),
        parts: Sequence[Part] = (),
        beside: PageBeside | None = None,
    ) -> None:
        self._settings = settings
        self._pool = connections.pool(settings.dsn, purpose="publisher", max_size=4, shared=bool(settings.listen_dsn))
        every = {each.name for each in settings.sinks if each.mode == "every"}
        sinks = [*((each.name, make(each)) for each in settings.sinks), *extra]
        rates, recent, registry = Rates(), RecentTotals(), metrics()
        told = SinksMetrics(registry)
        self._publishers = [
            Publisher(name, sink, self._pool, rates.arrived, told.of(name).settled, every=name in every)
            for name, sink in sinks
        ]
        self._history = HistoryPartitions(settings.history.days)
        self._source = DatabaseSource(settings)
        self._http = HttpServer(settings.http, self._source.hub, self.health, registry)
        self._backend = Backend(settings, rates, self._publishers, self.health)
        self._operator = OperatorRoutes(settings.http, self._http.metrics, self._backend, recent, beside=beside)
        for part in (self._operator, *parts):
            self._http.add(part)
        self._pipeline = Pipeline(
            settings, [*self._publishers, self._source, recent], progress, rates, LineMetrics(registry)
        )
        collector = DaemonCollector(
            registry,
            self._publishers,
            state=lambda: self.state,
            doorbell=self._doorbell_state,
            pool=self._source.pool,
        )
        self._http.before_each_scrape(collector.look)
        self._stages: Stages | None = None
        self._stopping = asyncio.Event()

    @property
    def state(self) -> DaemonState:
        """What it is doing now."""
        return self._pipeline.state

    async def run(self) -> None:
        """Run until `stop` or a signal; then close the line from its head, within `shutdown_seconds`.

        Raises ConfigError, SchemaError or DatabaseUnavailable when the first start cannot succeed; after that it waits
        and tries again.
        """
        try:
            async with self._pool, self._source, self._backend, self._http, asyncio.TaskGroup() as tasks:
                for number in (signal.SIGINT, signal.SIGTERM):
                    asyncio.get_running_loop().add_signal_handler(number, self.stop)
                publishing = [tasks.create_task(each.run(), name=f"publisher {each.name}") for each in self._publishers]
                beside = [
                    tasks.create_task(systemd.keep_alive(lambda: self._pipeline.alive)),
                    tasks.create_task(self._purge()),
                    tasks.create_task(self._tidy()),
                    tasks.create_task(self._source.run()),
                    *(tasks.create_task(self._source.batcher.run()) for _ in range(LOOKUPS)),
                ]
                line = tasks.create_task(self._line(), name="line")
                try:
                    await self._stopping.wait()
                    systemd.stopping()
                    await self._shut_down(line, publishing)
                finally:  # a bug in one of them, too: the group itself would cancel the others only once
                    await _ended([line, *publishing, *beside])
        except* CreditsdError as group:
            raise _first(group) from None

    def stop(self) -> None:
        """Begin to end; safe to call more than once, and from a signal."""
        self._stopping.set()
        self._pipeline.end()
        if self._stages is not None:
            self._stages.doorbell.end_rest()

    def health(self) -> dict[str, object]:
        """Say how the daemon is, for /livez and /readyz."""
        return {
            "state": self.state,
            "ready": self.state in ("leading", "standby"),
            "alive": self._pipeline.alive,
            "doorbell": self._doorbell_state(),
            "sinks": {each.name: each.error or ("behind" if each.behind else "current") for each in self._publishers},
        }

    def _doorbell_state(self) -> str | None:
        return self._stages.doorbell.state if self._stages is not None else None

    def _tell(self, payload: str) -> None:
        """Pass on what a command has rung."""
        if payload == "sinks":
            for publisher in self._publishers:
                publisher.tell()

    async def _line(self) -> None:
        """Lead, or stand by, again and again until the end."""
        backoff = Backoff()
        started = False
        while not self._stopping.is_set():
            self._pipeline.turned()
            try:
                async with connected(self._settings.listen_dsn or self._settings.dsn, purpose="leader") as leader:
                    installation = await schema.missing(leader, self._settings)
                    self._source.see(installation.user_id_type)
                    started, backoff = True, Backoff()
                    if await self._take_leadership(leader):
                        async with self._staged(leader, installation) as stages:
                            await self._pipeline.lead(stages)
            except* (DatabaseUnavailable, SchemaError, ConfigError) as group:
                error = _first(group)
                if not started:
                    raise error from None
                self._pipeline.state = "disconnected"
                seconds = backoff.next(None if isinstance(error, DatabaseUnavailable) else MENDING_SECONDS)
                say = log.warning if isinstance(error, DatabaseUnavailable) else log.error
                say("daemon.interrupted", reason=str(error), next_try_seconds=round(seconds, 2))
                systemd.status(f"waiting: {error}")
                await self._wait(seconds)
        self._pipeline.state = "stopping"

    async def _take_leadership(self, leader: Connection) -> bool:
        """Wait until no other daemon leads; False when we are to end before that."""
        while not self._stopping.is_set():
            self._pipeline.turned()
            found = await row(leader, sql_files.sql("queries/leadership_taken"))
            if found is not None and found[0]:
                return True
            if self.state != "standby":
                log.info("daemon.stood_by", reason="another daemon leads")
                self._pipeline.state = "standby"
                systemd.ready("standing by")
            await self._wait(STANDBY_SECONDS)
        return False

    @asynccontextmanager
    async def _staged(self, leader: Connection, installation: Installation) -> AsyncIterator[Stages]:
        """Open what leading takes, and end it as one when any connection is lost."""
        settings = self._settings
        dsn = settings.listen_dsn or settings.dsn
        polls = settings.wakeup == "poll"
        await self._history.tidy(leader)  # before the first step of today
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
                ChangeReader(
                    leader,
                    digest=installation.digest,
                    user_id_type=installation.user_id_type,
                    policy=settings.policy,
                ),
                Recomputer(leader, user_id_type=installation.user_id_type, policy=settings.policy),
                doorbell,
            )
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            beside = [tasks.create_task(doorbell.hold_sleep_lock())]
            if not polls:
                beside.append(tasks.create_task(doorbell.listening()))
            self._stages = stages
            try:
                yield stages
            finally:
                self._stages = None
                self._source.step_down()
                await _ended(beside)

    async def _purge(self) -> None:
        """Delete what is read, in the background and in bounded steps."""
        position, of = None, None
        while True:
            stages = self._stages
            if stages is not of:
                position, of = None, stages  # a position means nothing to another server
            try:
                if stages is not None and (position or stages.change_reader.unpurged):
                    async with connections.borrowed(self._pool) as connection:
                        position = await stages.change_reader.purge(connection, PURGE_CHANGES, position)
            except (DatabaseUnavailable, SchemaError) as error:
                log.debug("changes.purge_interrupted", reason=str(error))
            await asyncio.sleep(0 if position else PURGE_SECONDS)

    async def _tidy(self) -> None:
        """Open and drop the history's partitions while we lead, in the background."""
        while True:
            again = self._stages is None
            try:
                if not again:
                    async with connections.borrowed(self._pool) as connection:
                        again = await self._history.tidy(connection)
            except (DatabaseUnavailable, SchemaError) as error:
                log.debug("history.tidy_interrupted", reason=str(error))
            await asyncio.sleep(PURGE_SECONDS if again else TIDY_SECONDS)

    async def _shut_down(self, line: asyncio.Task[None], publishing: Sequence[asyncio.Task[None]]) -> None:
        """End from the head, and let what is stored arrive, in a bounded time; the rest resumes at its cursor."""
        deadline = time.monotonic() + self._settings.shutdown_seconds
        self._operator.close()
        self._source.hub.close()  # while there is somewhere else to go, and time
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
