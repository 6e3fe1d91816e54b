"""The composition root: opens everything, knows the order of the stages, and is the only place that creates tasks."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from creditsd.capture import change_purger, doorbell
from creditsd.config import systemd
from creditsd.config.settings import Settings
from creditsd.daemon import election, pipeline
from creditsd.daemon.backfill import Backfill, Progress
from creditsd.daemon.election import Election
from creditsd.daemon.leadership import Opener
from creditsd.daemon.pipeline import Pipeline, Receiver
from creditsd.daemon.state import DaemonState, StateName
from creditsd.daemon.tasks import ended
from creditsd.delivery import timings as delivery
from creditsd.delivery.publisher import Publisher
from creditsd.domain.errors import ungrouped
from creditsd.http import operator, server
from creditsd.http.database_source import DatabaseSource
from creditsd.http.operator import PageBeside
from creditsd.http.operator.backend import Backend
from creditsd.http.operator.recent_totals import RecentTotals
from creditsd.http.operator.routes import OperatorRoutes
from creditsd.http.server import HttpServer, Part
from creditsd.metrics import collectors
from creditsd.metrics.collectors import DaemonCollector
from creditsd.metrics.counters import LineMetrics, SinksMetrics
from creditsd.metrics.rates import Rates
from creditsd.metrics.registry import registry as metrics
from creditsd.postgres import connections
from creditsd.postgres.connections import Pool
from creditsd.sinks import Sink, make
from creditsd.totals import history_partitions, republish
from creditsd.totals.republish import RecentlyPublished

log = structlog.get_logger()

LOOKUPS = 2  # at the same time, so that one that takes long does not keep all others waiting


@dataclass(frozen=True, slots=True)
class Timings:
    """When each station does what.

    `stuck_seconds` without any step, a restart is worth a try: a page of users may take minutes where the table has no
    index, and a lost server is noticed sooner. `close_seconds` are for saving the cursors, where everything else has
    taken all the time there was.
    """

    doorbell: doorbell.Timings = field(default_factory=doorbell.Timings)
    purger: change_purger.Timings = field(default_factory=change_purger.Timings)
    partitions: history_partitions.Timings = field(default_factory=history_partitions.Timings)
    republish: republish.Timings = field(default_factory=republish.Timings)
    election: election.Timings = field(default_factory=election.Timings)
    pipeline: pipeline.Timings = field(default_factory=pipeline.Timings)
    delivery: delivery.Timings = field(default_factory=delivery.Timings)
    http: server.Timings = field(default_factory=server.Timings)
    operator: operator.Timings = field(default_factory=operator.Timings)
    metrics: collectors.Timings = field(default_factory=collectors.Timings)
    stuck_seconds: float = 600.0
    close_seconds: float = 1.0


class Daemon:
    """The line from the user's table to every sink. Losing PostgreSQL or a sink only pauses it; a bug ends it."""

    def __init__(
        self,
        settings: Settings,
        *,
        progress: Progress | None = None,
        extra: Sequence[tuple[str, Sink]] = (),
        parts: Sequence[Part] = (),
        beside: PageBeside | None = None,
        timings: Timings | None = None,
    ) -> None:
        self._settings = settings
        self._timings = timings = timings or Timings()
        self._state = DaemonState(timings.stuck_seconds)
        self._pool = connections.pool(settings.dsn, purpose="publisher", max_size=4, shared=bool(settings.listen_dsn))
        rates, recent, registry = Rates(), RecentTotals(), metrics()
        self._publishers = _publishers(
            settings, extra, self._pool, rates=rates, told=SinksMetrics(registry), timings=timings.delivery
        )
        self._source = DatabaseSource(settings)
        receivers: list[Receiver] = [*self._publishers, self._source, recent]
        self._pipeline = Pipeline(
            settings,
            receivers,
            self._state,
            backfill=Backfill(progress),
            rates=rates,
            metrics=LineMetrics(registry),
            recent=RecentlyPublished(timings.republish),
            timings=timings.pipeline,
        )
        opener = Opener(settings, self._pool, self._tell, timings.doorbell, timings.purger, timings.partitions)
        self._election = Election(
            settings, opener, self._pipeline, self._state, timings=timings.election, seen=self._source.see
        )
        self._http = HttpServer(settings.http, self._source.hub, self.health, registry, timings=timings.http)
        self._backend = Backend(settings, rates, self._publishers, self.health, timings.operator)
        self._operator = OperatorRoutes(
            settings.http, self._http.metrics, self._backend, recent, timings.operator, beside=beside
        )
        for part in (self._operator, *parts):
            self._http.add(part)
        collector = DaemonCollector(
            registry,
            self._publishers,
            state=lambda: self.state,
            doorbell=lambda: self._pipeline.doorbell,
            pool=self._source.pool,
            timings=timings.metrics,
        )
        self._http.before_each_scrape(collector.look)
        self._stopping = asyncio.Event()

    @property
    def state(self) -> StateName:
        """What it is doing now."""
        return self._state.now

    async def run(self) -> None:
        """Run until `stop` or a signal; then close the line from its head, within `shutdown_seconds`.

        Raises ConfigError, SchemaError or DatabaseUnavailable when the first start cannot succeed; after that it waits
        and tries again.
        """
        with ungrouped():
            async with self._pool, self._source, self._backend, self._http, asyncio.TaskGroup() as tasks:
                for number in (signal.SIGINT, signal.SIGTERM):
                    asyncio.get_running_loop().add_signal_handler(number, self.stop)
                publishing = [tasks.create_task(each.run(), name=f"publisher {each.name}") for each in self._publishers]
                line = tasks.create_task(self._election.run(), name="line")
                beside = [
                    tasks.create_task(systemd.keep_alive(lambda: self._state.alive)),
                    tasks.create_task(self._source.run()),
                    *(tasks.create_task(self._source.batcher.run()) for _ in range(LOOKUPS)),
                ]
                try:
                    await self._stopping.wait()
                    await self._shut_down(line, publishing)
                finally:  # a bug in one of them, too: the group itself would cancel the others only once
                    await ended([line, *publishing, *beside])

    def stop(self) -> None:
        """Begin to end; safe to call more than once, and from a signal."""
        self._state.enter("stopping")
        self._election.end()
        self._stopping.set()

    def health(self) -> dict[str, object]:
        """Say how the daemon is, for /livez and /readyz."""
        return {
            "state": self._state.now,
            "ready": self._state.ready,
            "alive": self._state.alive,
            "doorbell": self._pipeline.doorbell,
            "sinks": {each.name: each.error or ("behind" if each.behind else "current") for each in self._publishers},
        }

    def _tell(self, payload: str) -> None:
        """Pass on what a command has rung."""
        if payload == "sinks":
            for publisher in self._publishers:
                publisher.tell()

    async def _shut_down(self, line: asyncio.Task[None], publishing: Sequence[asyncio.Task[None]]) -> None:
        """End from the head, and let what is stored arrive, in a bounded time; the rest resumes at its cursor.

        We lead until the publishers are through: no other daemon tells the same sinks meanwhile.
        """
        deadline = time.monotonic() + self._settings.shutdown_seconds
        self._operator.close()
        self._source.hub.close()  # while there is somewhere else to go, and time
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.shutdown_seconds):
                await self._election.idle.wait()
        for publisher in self._publishers:
            await publisher.end()
        await ended(publishing, deadline)
        for publisher in self._publishers:
            if publisher.behind:
                log.warning("publisher.left_behind", sink=publisher.name, reason=publisher.error or "out of time")
        closing = [asyncio.create_task(publisher.close()) for publisher in self._publishers]
        await ended(closing, max(deadline, time.monotonic() + self._timings.close_seconds))
        self._election.resign()
        await ended([line], max(deadline, time.monotonic() + self._timings.close_seconds))
        log.info("daemon.stopped")


def _publishers(
    settings: Settings,
    extra: Sequence[tuple[str, Sink]],
    pool: Pool,
    *,
    rates: Rates,
    told: SinksMetrics,
    timings: delivery.Timings,
) -> Sequence[Publisher]:
    """Make a publisher for each sink of the settings, and for those that are given beside them."""
    sinks = [(each.name, make(each), each.mode == "every") for each in settings.sinks]
    sinks += [(name, sink, False) for name, sink in extra]
    if settings.wakeup == "poll":  # nobody hears the bell
        timings = replace(timings, idle_look_seconds=timings.look_seconds)
    return [
        Publisher(name, sink, pool, rates.arrived, told.of(name).settled, every=every, timings=timings)
        for name, sink, every in sinks
    ]
