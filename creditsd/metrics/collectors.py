"""The daemon's figures for `/metrics`: what the line does, how far each sink is, and what waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.metrics.counters import BOUNDS_SECONDS, LineCounters
from creditsd.metrics.families import labelled
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Pool, borrowed, row, rows

LOOK_SECONDS = 5.0  # the database is asked no more often, however many scrape
COUNTED = 100_000  # what waits is counted up to here

STATES = ("starting", "standby", "backfilling", "leading", "disconnected", "stopping")
DOORBELL_STATES = ("awake", "asking", "asleep", "polling", "none")


class MeasuredLine(Protocol):
    """The line, as far as it is measured."""

    counters: LineCounters

    @property
    def state(self) -> str:
        """What it is doing now."""

    @property
    def table_watched(self) -> bool:
        """Whether every change of the table is seen, as far as is known."""


class MeasuredPublisher(Protocol):
    """A publisher, as far as it is measured."""

    name: str
    totals_delivered: int
    totals_refused: int

    @property
    def cursor(self) -> int:
        """The version up to which everything has arrived."""

    @property
    def behind(self) -> bool:
        """Whether something that is stored has not arrived."""

    @property
    def error(self) -> str | None:
        """Why the sink stands still, or None."""


@dataclass(slots=True)
class _Waiting:
    """What waits, as it was in the database a moment ago; by sink."""

    queued: dict[str, int] = field(default_factory=dict)
    lag_seconds: dict[str, float] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)


class DaemonCollector:
    """Tells them of one daemon. What stands in the database is told by the one that leads, so that sums are right."""

    def __init__(
        self,
        line: MeasuredLine,
        publishers: Sequence[MeasuredPublisher],
        doorbell: Callable[[], str | None],
        pool: Pool,
    ) -> None:
        self._line = line
        self._publishers = publishers
        self._doorbell = doorbell
        self._pool = pool
        self._waiting: _Waiting | None = None
        self._looked_at: float | None = None

    async def families(self) -> Iterable[Metric]:
        """Tell all; what the database cannot tell now is left out."""
        state = self._line.state
        leads = state in ("leading", "backfilling")
        return [
            GaugeMetricFamily("creditsd_leader", "Whether this daemon leads.", float(leads)),
            _one_of("creditsd_state", "What this daemon does.", STATES, state),
            _one_of("creditsd_doorbell_state", "How it wakes.", DOORBELL_STATES, self._doorbell() or "none"),
            *(_watched(self._line.table_watched) if leads else ()),
            *_line_families(self._line.counters),
            *self._sinks(),
            *(await self._stored() if leads else ()),
        ]

    def _sinks(self) -> Iterable[Metric]:
        each = {publisher.name: publisher for publisher in self._publishers}
        return [
            labelled(
                "creditsd_sink_delivered",
                "Totals that have arrived, repetitions included.",
                "sink",
                {name: publisher.totals_delivered for name, publisher in each.items()},
            ),
            labelled(
                "creditsd_sink_refused",
                "Deliveries that a sink refused while others passed.",
                "sink",
                {name: publisher.totals_refused for name, publisher in each.items()},
            ),
            _gauges(
                "creditsd_sink_up",
                "Whether a sink takes totals: 0 while it is unreachable, paused or disabled.",
                {name: float(publisher.error is None) for name, publisher in each.items()},
            ),
        ]

    async def _stored(self) -> Iterable[Metric]:
        now = time.monotonic()
        if self._looked_at is None or now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            try:
                self._waiting = await self._look()
            except (DatabaseUnavailable, SchemaError):
                self._waiting = None
        waiting = self._waiting
        if waiting is None:
            return []
        return [
            _gauges("creditsd_sink_queue", f"Totals a sink has yet to be told, up to {COUNTED}.", waiting.queued),
            _gauges("creditsd_sink_lag_seconds", "The age of the oldest of them.", waiting.lag_seconds),
            _gauges("creditsd_deliveries_refused", f"Wait for a next try, up to {COUNTED}.", waiting.refused),
            _gauges("creditsd_deliveries_dead", f"Dead letters, up to {COUNTED}.", waiting.dead),
        ]

    async def _look(self) -> _Waiting:
        """Ask the database; of a sink that is current there is nothing to ask."""
        found = _Waiting()
        async with borrowed(self._pool) as connection:
            for each in self._publishers:
                found.queued[each.name], found.lag_seconds[each.name] = 0, 0.0
                found.refused[each.name] = found.dead[each.name] = 0
                if each.behind:
                    asked = {"version": each.cursor, "limit": COUNTED}
                    queued = await row(connection, sql_files.sql("queries/queued"), asked)
                    assert queued is not None
                    found.queued[each.name], found.lag_seconds[each.name] = queued[0], float(queued[1])
            for sink, refused, dead in await rows(
                connection, sql_files.sql("queries/letters_counted"), {"limit": COUNTED}
            ):
                found.refused[sink], found.dead[sink] = refused, dead
        return found


def _watched(whether: bool) -> Iterable[Metric]:
    said = "Whether every change of the table is seen: 0 while somebody must mend what could hide one."
    return [GaugeMetricFamily("creditsd_table_watched", said, float(whether))]


def _line_families(counters: LineCounters) -> Iterable[Metric]:
    bounds = [*(str(bound) for bound in BOUNDS_SECONDS), "+Inf"]
    return [
        CounterMetricFamily("creditsd_changes_read", "Changes that were read.", counters.changes),
        CounterMetricFamily("creditsd_users_recomputed", "Users recomputed for a change.", counters.users),
        labelled("creditsd_totals_stored", "New totals, by cause.", "cause", counters.totals),
        HistogramMetricFamily(
            "creditsd_drain_seconds",
            "From asking for changes to having stored the totals; where there were some.",
            buckets=list(zip(bounds, accumulate(counters.drains), strict=True)),
            sum_value=counters.drain_seconds,
        ),
    ]


def _gauges(name: str, documentation: str, by_sink: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=["sink"])
    for sink, value in by_sink.items():
        family.add_metric([sink], value)
    return family


def _one_of(name: str, documentation: str, states: Sequence[str], now: str) -> Metric:
    """Tell a state as one gauge each, of which one is 1."""
    family = GaugeMetricFamily(name, documentation, labels=["state"])
    for state in states:
        family.add_metric([state], float(state == now))
    return family
