"""Figures for Prometheus at `/metrics`: those of the HTTP surface, of the process, and whatever is added."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder

from creditsd.http.auth import Auth
from creditsd.metrics.counters import HttpCounters
from creditsd.metrics.families import Collector, http_families


class MetricsEndpoint:
    """Answers a scrape; without `public` only one with an API key."""

    def __init__(self, auth: Auth, counts: HttpCounters, *, public: bool) -> None:
        self._auth = auth
        self._counts = counts
        self._public = public
        self._collectors: list[Collector] = []

    def add(self, collector: Collector) -> None:
        """Tell of something more."""
        self._collectors.append(collector)

    def routes(self) -> Iterable[web.RouteDef]:
        """Contribute the one path."""
        return [web.get("/metrics", self._answer)]

    async def _answer(self, request: web.Request) -> web.Response:
        if not self._public:
            await self._auth.server(request)
        families = [*http_families(self._counts), *ProcessCollector(registry=None).collect()]
        for collector in self._collectors:
            families += await collector.families()
        registry = CollectorRegistry()
        registry.register(_Gathered(families))
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})


class _Gathered:
    """Families as the encoder wants them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
