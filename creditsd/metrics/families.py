"""Figures as Prometheus knows them: what tells some, and how plain numbers become families."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from creditsd.metrics.counters import HttpCounters


class Collector(Protocol):
    """Something with figures to tell."""

    async def families(self) -> Iterable[Metric]:
        """Tell them; asked for at every scrape, so it must be cheap."""


def http_families(counts: HttpCounters) -> Iterable[Metric]:
    """Tell what has happened over HTTP."""
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
