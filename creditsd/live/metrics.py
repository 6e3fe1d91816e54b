"""Figures for Prometheus at `/metrics`: those of the HTTP surface, of the process, and whatever is added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from creditsd.live.access import Access
from creditsd.live.counts import Counts


class Measured(Protocol):
    """Something with figures to tell."""

    async def families(self) -> Iterable[Metric]:
        """Tell them; asked for at every scrape, so it must be cheap."""


class Metrics:
    """Answers a scrape; without `public` only one with an API key."""

    def __init__(self, access: Access, counts: Counts, *, public: bool) -> None:
        self._access = access
        self._counts = counts
        self._public = public
        self._measured: list[Measured] = []

    def add(self, measured: Measured) -> None:
        """Tell of something more."""
        self._measured.append(measured)

    def routes(self) -> Iterable[web.RouteDef]:
        """Contribute the one path."""
        return [web.get("/metrics", self._answer)]

    async def _answer(self, request: web.Request) -> web.Response:
        if not self._public:
            await self._access.server(request)
        families = [*_surface(self._counts), *ProcessCollector(registry=None).collect()]
        for measured in self._measured:
            families += await measured.families()
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


def _surface(counts: Counts) -> Iterable[Metric]:
    answers = CounterMetricFamily("creditsd_http_answers", "Answers by path and status.", labels=["path", "status"])
    for (path, status), count in sorted(counts.answers.items()):
        answers.add_metric([path, str(status)], count)
    return [
        answers,
        labelled("creditsd_http_auth_failures", "Refused for want of a right.", "status", counts.auth_failures),
        labelled("creditsd_http_limited", "Refused by a limit: address, caller, streams.", "by", counts.limited),
        GaugeMetricFamily("creditsd_http_connections", "Open connections.", counts.connections),
        CounterMetricFamily("creditsd_http_connections_refused", "Had no place.", counts.connections_refused),
        GaugeMetricFamily("creditsd_streams_open", "Open streams.", counts.open),
        CounterMetricFamily("creditsd_streams_opened", "Streams that were opened.", counts.opened),
        labelled("creditsd_streams_closed", "Streams that have ended, by reason.", "reason", counts.closed),
        CounterMetricFamily("creditsd_stream_totals", "Totals sent to streams.", counts.messages),
        CounterMetricFamily("creditsd_stream_heartbeats", "Heartbeats sent to streams.", counts.heartbeats),
    ]


def labelled(name: str, documentation: str, label: str, values: Mapping[str, float]) -> Metric:
    """Make a counter with a value for each label."""
    family = CounterMetricFamily(name, documentation, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family
