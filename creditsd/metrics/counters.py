"""Counters of HTTP, the line, each sink, and a gateway's feed."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from creditsd.domain.total import Total

DRAIN_BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PUBLISH_BUCKETS_SECONDS = (*DRAIN_BUCKETS_SECONDS, 30.0, 60.0, 300.0, 3600.0)
DRIFTS = ("missing", "wrong")


class HttpMetrics:
    """Counts requests, refusals, connections and streams. Labels never hold what a client made up."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answers = Counter(
            "creditsd_http_answers", "Answers by path and status.", ["path", "status"], registry=registry
        )
        self.auth_failures = Counter(
            "creditsd_http_auth_failures", "Refused for want of a right.", ["status"], registry=registry
        )
        self.limited = Counter(
            "creditsd_http_limited", "Refused by a limit: address, caller, streams.", ["by"], registry=registry
        )
        self.connections = Gauge("creditsd_http_connections", "Open connections.", registry=registry)
        self.connections_refused = Counter("creditsd_http_connections_refused", "Had no place.", registry=registry)
        self.streams = Gauge("creditsd_streams_open", "Open streams, and reads that wait.", registry=registry)
        self.streams_opened = Counter("creditsd_streams_opened", "Streams that were opened.", registry=registry)
        self.streams_closed = Counter(
            "creditsd_streams_closed", "Streams that have ended, by reason.", ["reason"], registry=registry
        )
        self.stream_totals = Counter("creditsd_stream_totals", "Totals sent to streams.", registry=registry)
        self.stream_heartbeats = Counter("creditsd_stream_heartbeats", "Heartbeats sent to streams.", registry=registry)


class DrainTracer(Protocol):
    """Traces the drains that found changes."""

    def drained(self, *, changes: int, users: int, totals: Sequence[Total], seconds: float) -> None:
        """Trace a drain that has just ended, and what it stored, in order."""


class LineMetrics:
    """Counts what the leader reads, recomputes and stores, and has it traced where anything is."""

    def __init__(self, registry: CollectorRegistry, tracer: DrainTracer | None = None) -> None:
        self._tracer = tracer
        self._changes = Counter("creditsd_changes_read", "Changes that were read.", registry=registry)
        self._users = Counter("creditsd_users_recomputed", "Users recomputed for a change.", registry=registry)
        self._totals = Counter("creditsd_totals_stored", "New totals, by cause.", ["cause"], registry=registry)
        self._compared = Counter("creditsd_users_compared", "Users that a sweep compared.", registry=registry)
        self._drift = Counter(
            "creditsd_drift",
            "Totals that a sweep found to be other than the table's, by kind.",
            ["kind"],
            registry=registry,
        )
        for kind in DRIFTS:
            self._drift.labels(kind)
        self._drains = Histogram(
            "creditsd_drain_seconds",
            "From asking for changes to having stored the totals; where there were some.",
            buckets=DRAIN_BUCKETS_SECONDS,
            registry=registry,
        )

        self.queue_usage = Gauge(
            "creditsd_notification_queue_usage",
            "How full the server's queue of notifications was at the last ring of our own, 1 being full.",
            registry=registry,
        )

    def drained(self, *, changes: int, users: int, totals: Sequence[Total], seconds: float) -> None:
        """Count a drain that found changes and has just ended, and time it."""
        if changes:
            self._changes.inc(changes)
            self._users.inc(users)
            self._drains.observe(seconds)
            if self._tracer is not None:
                self._tracer.drained(changes=changes, users=users, totals=totals, seconds=seconds)

    def swept(self, users: int) -> None:
        """Count users that a sweep has compared."""
        self._compared.inc(users)

    def drifted(self, kind: str, users: int) -> None:
        """Count users whose total was other than the table's though nothing said so."""
        self._drift.labels(kind).inc(users)

    def stored(self, totals: Sequence[Total]) -> None:
        """Count new totals by cause."""
        for cause, number in Tally(total.cause for total in totals).items():
            self._totals.labels(cause).inc(number)


class SinkMetrics:
    """Counts the deliveries of one sink."""

    def __init__(self, delivered: Counter, refused: Counter, seconds: Histogram) -> None:
        self._delivered = delivered
        self._refused = refused
        self._seconds = seconds

    def settled(self, delivered: int, refused: int) -> None:
        """Count deliveries that have arrived, and those that were refused while others passed."""
        self._delivered.inc(delivered)
        self._refused.inc(refused)

    def arrived(self, stored_at: float) -> None:
        """Time a delivery by its oldest total, which was stored at a time (seconds since 1970, the server's clock)."""
        self._seconds.observe(max(0.0, time.time() - stored_at))


class SinksMetrics:
    """Makes the counters of each sink."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._delivered = Counter(
            "creditsd_sink_delivered", "Totals that have arrived, repetitions included.", ["sink"], registry=registry
        )
        self._refused = Counter(
            "creditsd_sink_refused",
            "Deliveries that a sink refused while others passed.",
            ["sink"],
            registry=registry,
        )
        self._seconds = Histogram(
            "creditsd_publish_seconds",
            "From storing a total, which follows its commit, to its arrival: the oldest one of each delivery.",
            ["sink"],
            buckets=PUBLISH_BUCKETS_SECONDS,
            registry=registry,
        )

    def of(self, sink: str) -> SinkMetrics:
        """Return one sink's counters, exported as 0 from now on."""
        return SinkMetrics(self._delivered.labels(sink), self._refused.labels(sink), self._seconds.labels(sink))


class FeedMetrics:
    """Measures a gateway's feed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connected = Gauge("creditsd_feed_connected", "1 while the feed is heard.", registry=registry)
        self.users = Gauge("creditsd_feed_users", "Users subscribed at the feed.", registry=registry)
        self.totals = Counter("creditsd_feed_totals", "Totals heard or read from the feed.", registry=registry)
        self.losses = Counter(
            "creditsd_feed_losses", "How often the feed was lost, or could not be reached.", registry=registry
        )
