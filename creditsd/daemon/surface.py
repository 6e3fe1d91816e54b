"""What the daemon answers over HTTP: reads and streams, probes, figures, the operator's page."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry

from creditsd.config.settings import Settings
from creditsd.daemon.pipeline import Pipeline
from creditsd.daemon.timings import Timings
from creditsd.delivery.publisher import Publisher
from creditsd.http.database_source import DatabaseSource
from creditsd.http.history import History
from creditsd.http.operator import PageBeside
from creditsd.http.operator.backend import Backend
from creditsd.http.operator.recent_totals import RecentTotals
from creditsd.http.operator.routes import OperatorRoutes
from creditsd.http.server import HttpServer, Part
from creditsd.metrics.collectors import DaemonCollector
from creditsd.metrics.rates import Rates
from creditsd.postgres.connections import Pool

LOOKUPS = 2  # at the same time, so that one that takes long does not keep all others waiting


class Surface:
    """Opens and closes all of it as one; `source` and `recent` are receivers of what is stored."""

    def __init__(
        self,
        settings: Settings,
        registry: CollectorRegistry,
        rates: Rates,
        health: Callable[[], Mapping[str, object]],
        publishers: Iterable[Publisher],
        *,
        parts: Sequence[Part],
        beside: PageBeside | None,
        timings: Timings,
    ) -> None:
        self.source = DatabaseSource(settings, timings.source)
        self.recent = RecentTotals()
        self._registry = registry
        self._publishers = publishers
        self._timings = timings
        self._http = HttpServer(settings.http, self.source.hub, health, registry, timings=timings.http)
        self._backend = Backend(settings, rates, publishers, health, timings.operator)
        self._operator = OperatorRoutes(
            settings.http, self._http.metrics, self._backend, self.recent, timings.operator, beside=beside
        )
        self._opened = AsyncExitStack()
        self._http.add(History(self._http.auth, self.source, settings.history.days))
        for part in (self._operator, *parts):
            self._http.add(part)

    def measure(self, pipeline: Pipeline, publishing: Pool) -> None:
        """Tell Prometheus of the line, and of the pool that publishers take connections from, too."""
        collector = DaemonCollector(
            self._registry,
            self._publishers,
            pipeline,
            {"publisher": publishing, "reader": self.source.pool},
            polls=lambda: pipeline.polls.begun if pipeline.polls.gather else None,
            timings=self._timings.metrics,
        )
        self._http.before_each_scrape(collector.look)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            for part in (self.source, self._backend, self._http):
                await opening.enter_async_context(part)
            self._opened = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._opened.__aexit__(kind, error, traceback)

    def work(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what must run while it is open."""
        return [self.source.run(), *(self.source.batcher.run() for _ in range(LOOKUPS))]

    async def follow(self, settings: Settings) -> None:
        """Answer by other settings from now on; nobody whom they still let in is sent away."""
        self._backend.follow(settings)
        self._operator.follow(settings.http)
        await self._http.follow(settings.http)

    def close(self) -> None:
        """Tell every stream and viewer to go, while there is somewhere else to go, and time."""
        self._operator.close()
        self.source.hub.close()
