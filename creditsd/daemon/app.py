"""The composition root: opens everything, knows the order of the stages, and is the only place that creates tasks."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from creditsd import __version__
from creditsd.admin.sink_condition import COUNTED, Condition, SinkFacts, judge
from creditsd.config import reload, systemd
from creditsd.config.redact import redact_dsn
from creditsd.config.reload import Reload
from creditsd.config.settings import Settings
from creditsd.daemon.backfill import Backfill, Progress
from creditsd.daemon.election import Election
from creditsd.daemon.introduction import introduce, note_overrides
from creditsd.daemon.leadership import Opener
from creditsd.daemon.pipeline import Pipeline
from creditsd.daemon.polls import Polls
from creditsd.daemon.publishers import Publishers, Publishing
from creditsd.daemon.stall_watch import StallWatch
from creditsd.daemon.state import DaemonState, StateName
from creditsd.daemon.surface import Surface
from creditsd.daemon.tasks import begun, ended
from creditsd.daemon.timings import Timings
from creditsd.daemon.tracing import tracing
from creditsd.delivery.attempt_log import AttemptLog
from creditsd.delivery.publisher import Publisher
from creditsd.delivery.tracer import Tracer
from creditsd.domain.errors import ungrouped
from creditsd.http.operator import PageBeside
from creditsd.http.server import Part
from creditsd.metrics.counters import LineMetrics, SinksMetrics
from creditsd.metrics.rates import Rates
from creditsd.metrics.registry import registry as metrics
from creditsd.postgres import budget, connections
from creditsd.postgres.connections import Pool
from creditsd.schema.watch import TableWatch
from creditsd.sinks import Sink
from creditsd.totals import sweep
from creditsd.totals.republish import RecentlyPublished
from creditsd.totals.sweep import Sweep

log = structlog.get_logger()

RELOADED = reload.Scope(
    changes=frozenset({"sinks", "http", "log"}),
    fixed=frozenset({"http.listen", "http.jwt_user_claim"}),  # the latter is installed, too
    unused=frozenset({"role", "reader", "lock_timeout_seconds", "lock_wait_seconds", "serve"}),
)


class Daemon:
    """The line from the user's table to every sink. Losing PostgreSQL or a sink only pauses it; a bug ends it.

    With `read`, which reads the settings anew, SIGHUP reloads them.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        progress: Progress | None = None,
        extra: Sequence[tuple[str, Sink]] = (),
        parts: Sequence[Part] = (),
        beside: PageBeside | None = None,
        timings: Timings | None = None,
        read: Callable[[], Settings] | None = None,
    ) -> None:
        self._settings = settings
        self._timings = timings = timings or Timings()
        self._state = DaemonState(timings.stuck_seconds)
        self._pool = connections.pool(
            settings.dsn, purpose="publisher", schema=settings.schema, max_size=budget.PUBLISHER, shared=settings.shared
        )
        self._traces = tracing(settings.tracing)
        self._attempt_log = AttemptLog(lambda: self._publishers.attempts())  # noqa: PLW0108  they are made later
        rates, registry, recent = Rates(), metrics(), RecentlyPublished(timings.totals.republish)
        stalls, told = StallWatch(timings.election.stalled_seconds), SinksMetrics(registry)
        self._publishers = Publishers(
            settings.sinks,
            extra,
            _publishing(settings, self._pool, rates, told, tracer=self._traces, stalls=stalls, timings=timings),
            highest=lambda: recent.highest,
            leave_seconds=timings.leave_seconds,
            close_seconds=timings.close_seconds,
        )
        self._surface = Surface(
            settings, registry, rates, self.health, self._publishers, parts=parts, beside=beside, timings=timings
        )
        line, polls = LineMetrics(registry, self._traces), Polls(settings.quiet_seconds)
        polls.tell(self._publishers.poll)
        self._pipeline = self._make_pipeline(Backfill(progress), rates, line, recent, polls)
        self._surface.measure(self._pipeline, self._pool)
        self._election = self._make_election(line, polls, stalls)
        self._reload = self._reloading(read) if read is not None else None
        self._stopping = asyncio.Event()
        self._introduced = False

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
            traces = self._traces or contextlib.nullcontext()
            async with traces, self._pool, self._surface, asyncio.TaskGroup() as tasks:
                for number in (signal.SIGINT, signal.SIGTERM):
                    asyncio.get_running_loop().add_signal_handler(number, self.stop)
                self._publishers.start(tasks)
                line = begun(tasks, self._election.run(), name="line")
                beside = [
                    begun(tasks, systemd.keep_alive(lambda: self._state.alive)),
                    *(begun(tasks, each) for each in self._surface.work()),
                ]
                reloading = []
                if self._reload is not None:
                    reloading = [begun(tasks, self._reload.run(), name="reload")]
                    reload.listen(self.reload, self.stop)
                try:
                    await self._stopping.wait()
                    await ended(reloading)  # wherever it is: what it has not begun, the next start does
                    await self._shut_down(line)
                finally:  # a bug in one of them, too: the group itself would cancel the others only once
                    await ended([line, *reloading, *self._publishers.running, *beside])

    def stop(self) -> None:
        """Begin to end; safe to call more than once, and from a signal."""
        self._state.enter("stopping")
        self._election.end()
        self._stopping.set()

    def reload(self) -> None:
        """Read the settings anew soon; safe to call more than once, and from a signal."""
        if self._reload is not None:
            self._reload.ask()

    def health(self) -> dict[str, object]:
        """Say how the daemon is, for /livez and /readyz."""
        return {
            "version": __version__,
            "state": self._state.now,
            "ready": self._state.ready,
            "problem": self._state.problem,
            "alive": self._state.alive,
            "doorbell": self._pipeline.doorbell,
            "sinks": {each.name: str(self._condition(each)) for each in self._publishers},
        }

    def _condition(self, publisher: Publisher) -> Condition | str:
        """Judge a sink of ours by what is known without a query; while somebody else leads, that is nothing."""
        if self._state.now in ("starting", "standby", "disconnected"):
            return "not ours to tell: this daemon does not lead"
        refused, dead = publisher.refusals or (COUNTED, 0)
        return judge(
            SinkFacts(
                publisher.name,
                paused=publisher.halted and publisher.disabled_reason is None,
                disabled_reason=publisher.disabled_reason and redact_dsn(publisher.disabled_reason),
                error=publisher.failure and redact_dsn(publisher.failure),
                refusing=publisher.refusing,
                queue=None if publisher.behind else 0,
                refused=refused,
                dead=dead,
            )
        )

    def _make_pipeline(
        self, backfill: Backfill, rates: Rates, metrics: LineMetrics, recent: RecentlyPublished, polls: Polls
    ) -> Pipeline:
        return Pipeline(
            self._settings,
            lambda: (*self._publishers, self._surface.source, self._surface.recent),
            self._state,
            backfill=backfill,
            rates=rates,
            metrics=metrics,
            recent=recent,
            watch=TableWatch(self._settings, self._timings.watch),
            polls=polls,
            timings=self._timings.pipeline,
        )

    def _make_election(self, metrics: LineMetrics, polls: Polls, stalls: StallWatch) -> Election:
        settings, timings = self._settings, self._timings
        swept = _sweep(settings, metrics, timings.totals.sweep)
        opener = Opener(settings, self._pool, self._tell, self._state, polls, swept, self._attempt_log, timings)
        return Election(
            settings,
            opener,
            self._pipeline,
            self._state,
            led=[self._publishers, self._surface.source, self._surface.recent],
            stall_watch=stalls,
            timings=timings.election,
            seen=self._see,
        )

    def _see(self, user_id_type: str) -> None:
        """Hear that the database is as it should be; the first time, the start has succeeded."""
        if not self._introduced:
            introduce(self._settings, self._publishers.names)
            self._introduced = True
        self._surface.source.see(user_id_type)

    def _tell(self, payload: str) -> None:
        """Pass on what a command has rung."""
        if payload == "sinks":
            self._publishers.tell()

    def _reloading(self, read: Callable[[], Settings]) -> Reload:
        return Reload(
            self._settings,
            whose="daemon",
            read=read,
            scope=RELOADED,
            apply=self._follow,
            said=lambda: self._state.said,
        )

    async def _follow(self, settings: Settings) -> Mapping[str, object]:
        """Run with other settings; return what that changes about the sinks. Raises ConfigError before it begins."""
        plan = self._publishers.plan(settings.sinks)
        note_overrides(settings.origin)
        self._settings = settings
        await self._surface.follow(settings)
        await self._publishers.follow(plan)
        return plan.facts()

    async def _shut_down(self, line: asyncio.Task[None]) -> None:
        """End from the head, and let what is stored arrive, in a bounded time; the rest resumes at its cursor.

        We lead until the publishers are through: no other daemon tells the same sinks meanwhile.
        """
        deadline = time.monotonic() + self._settings.shutdown_seconds
        self._surface.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.shutdown_seconds):
                await self._election.idle.wait()
        await self._publishers.drain(deadline)
        writing = asyncio.create_task(self._attempt_log.write(self._pool))
        await ended([writing], min(deadline, time.monotonic() + self._timings.close_seconds))
        await self._publishers.close(deadline)
        self._election.resign()
        await ended([line], max(deadline, time.monotonic() + self._timings.close_seconds))
        log.info("daemon.stopped")


def _sweep(settings: Settings, metrics: LineMetrics, timings: sweep.Timings) -> Sweep | None:
    """Make the sweep, unless it is off."""
    if not settings.sweep_hours:
        return None
    return Sweep(
        settings.policy,
        hours=settings.sweep_hours,
        page_users=settings.max_batch_users,
        rings=settings.wakeup == "doorbell",
        metrics=metrics,
        timings=timings,
    )


def _publishing(
    settings: Settings,
    pool: Pool,
    rates: Rates,
    told: SinksMetrics,
    *,
    tracer: Tracer | None,
    stalls: StallWatch,
    timings: Timings,
) -> Publishing:
    """Return what makes a publisher, measured and with the times there are."""
    times = timings.delivery
    if settings.wakeup == "poll":  # nobody hears the bell
        times = replace(times, idle_look_seconds=times.look_seconds)

    def made(name: str, sink: Sink, every: bool) -> Publisher:
        measured = told.of(name)

        def arrived(stored_at: float) -> None:
            rates.arrived(stored_at)
            measured.arrived(stored_at)

        return Publisher(
            name,
            sink,
            pool,
            arrived,
            measured.settled,
            every=every,
            tracer=tracer,
            stalled=lambda: stalls.stalled,
            timings=times,
        )

    return made
