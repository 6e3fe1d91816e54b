"""Gauges read at scrape time: the daemon's state, each sink's, and the queues in the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Gauge

from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Pool, borrowed, row, rows

COUNTED = 100_000  # what waits is counted up to here

STATES = ("starting", "standby", "backfilling", "leading", "disconnected", "stopping")
LEADING = ("leading", "backfilling")
PROBLEMS = ("not summed", "not expired", "id too long")
DOORBELL_STATES = ("awake", "asking", "asleep", "polling", "none")


@dataclass(frozen=True, slots=True)
class Timings:
    """The database is asked what waits every `look_seconds` at most, however many scrape.

    Where the line polls, that is once a poll while nothing waits.
    """

    look_seconds: float = 5.0


class MeasuredPublisher(Protocol):
    """What is measured of a publisher."""

    @property
    def name(self) -> str:
        """What the sink is called."""

    @property
    def cursor(self) -> int:
        """The version up to which everything has arrived."""

    @property
    def behind(self) -> bool:
        """Whether something that is stored has not arrived."""

    @property
    def error(self) -> str | None:
        """Why the sink stands still, or None."""


class MeasuredLine(Protocol):
    """What is measured of the line."""

    @property
    def rings(self) -> bool:
        """Whether it is to be woken by a bell."""

    @property
    def state(self) -> str:
        """What the daemon does."""

    @property
    def doorbell(self) -> str | None:
        """How it wakes; None where it does not lead."""

    @property
    def table_watched(self) -> bool:
        """Whether every change of the table is seen, as far as is known."""

    @property
    def behind_seconds(self) -> float:
        """How old the oldest change may be that is not recomputed yet."""

    @property
    def snapshot(self) -> str | None:
        """Up to where the changes are recomputed; None where it does not lead."""


class _Waiting(NamedTuple):
    """The queue of one sink."""

    queued: int = 0
    lag_seconds: float = 0.0
    refused: int = 0
    dead: int = 0


class _Seen(NamedTuple):
    """What a look has found: each sink's queue, who is set aside for what, how many changes are not recomputed."""

    waiting: Mapping[str, _Waiting]
    set_aside: Mapping[str, int]
    behind: float


_NOTHING = _Seen({}, {}, 0)
_UNKNOWN = _Seen({}, {}, float("nan"))


class DaemonCollector:
    """Registers the gauges of one daemon. The leader alone exports queues, so that sums over daemons are right."""

    def __init__(
        self,
        registry: CollectorRegistry,
        publishers: Iterable[MeasuredPublisher],
        line: MeasuredLine,
        pools: Mapping[str, Pool],
        *,
        polls: Callable[[], int | None] = lambda: None,
        timings: Timings | None = None,
    ) -> None:
        """Register them; `polls` counts how often the line has polled, and is None where it does not.

        The pool `reader` is borrowed from to look.
        """
        self._publishers = publishers
        self._line = line
        self._pools = pools
        self._timings = timings or Timings()
        self._polls = polls
        self._looked_at: float | None = None
        self._seen_poll: int | None = None
        self._measure_line(registry)
        self._measure_pools(registry)
        self._up = _by_sink(
            registry, "creditsd_sink_up", "Whether a sink takes totals: 0 while it is unreachable, paused or disabled."
        )
        behind = f"Changes that are not recomputed yet, up to {COUNTED}."
        self._behind = Gauge("creditsd_changes_behind", behind, registry=registry)
        self._queue = _by_sink(registry, "creditsd_sink_queue", f"Totals a sink has yet to be told, up to {COUNTED}.")
        self._lag = _by_sink(registry, "creditsd_sink_lag_seconds", "The age of the oldest of them.")
        self._refused = _by_sink(registry, "creditsd_deliveries_refused", f"Wait for a next try, up to {COUNTED}.")
        self._dead = _by_sink(registry, "creditsd_deliveries_dead", f"Dead letters, up to {COUNTED}.")
        aside = f"Users somebody must look after, by what is wrong with their rows, up to {COUNTED}."
        self._set_aside = Gauge("creditsd_users_set_aside", aside, ["problem"], registry=registry)

    async def look(self) -> None:
        """Ask the sinks before a scrape, and query their queues; export none while the database does not answer."""
        now = time.monotonic()
        self._up.clear()
        for each in self._publishers:  # others than before, where the settings were reloaded
            self._up.labels(each.name).set(each.error is None)
        if not self._leads():
            self._looked_at = None
            self._show(_NOTHING)
        elif self._due(now):
            self._looked_at, self._seen_poll = now, self._polls()
            try:
                self._show(await self._counted())
            except (DatabaseUnavailable, SchemaError):
                self._show(_UNKNOWN)

    def _measure_line(self, registry: CollectorRegistry) -> None:
        line = self._line
        leader = Gauge("creditsd_leader", "Whether this daemon leads.", registry=registry)
        leader.set_function(self._leads)
        _one_of(registry, "creditsd_state", "What this daemon does.", STATES, lambda: line.state)
        _one_of(
            registry,
            "creditsd_doorbell_state",
            "How it wakes.",
            DOORBELL_STATES,
            lambda: (line.doorbell if line.rings else None) or "none",
        )
        watched = "Whether every change of the table is seen: 0 while somebody must mend what could hide one."
        Gauge("creditsd_table_watched", watched, registry=registry).set_function(lambda: float(line.table_watched))
        oldest = "How old the oldest change may be that is not recomputed yet; 0 where there is none."
        Gauge("creditsd_oldest_change_seconds", oldest, registry=registry).set_function(lambda: line.behind_seconds)

    def _measure_pools(self, registry: CollectorRegistry) -> None:
        what = "Open connections to PostgreSQL, by pool."
        opened = Gauge("creditsd_pool_connections", what, ["pool"], registry=registry)
        waiting = Gauge("creditsd_pool_waiting", "Who waits for one, by pool.", ["pool"], registry=registry)
        for name, pool in self._pools.items():
            opened.labels(name).set_function(partial(_of_pool, pool, "pool_size"))
            waiting.labels(name).set_function(partial(_of_pool, pool, "requests_waiting"))

    def _due(self, now: float) -> bool:
        """Whether to ask again: not where we poll, nothing waits, and the last answer is of the newest poll."""
        if self._looked_at is None:
            return True
        if now - self._looked_at < self._timings.look_seconds:
            return False
        poll = self._polls()
        return poll is None or poll != self._seen_poll or any(each.behind for each in self._publishers)

    def _leads(self) -> bool:
        return self._line.state in LEADING

    def _show(self, seen: _Seen) -> None:
        """Replace the exported queues without an await in between: others may scrape meanwhile."""
        gauges = (self._queue, self._lag, self._refused, self._dead)
        for gauge in gauges:
            gauge.clear()
        for sink, facts in seen.waiting.items():
            for gauge, fact in zip(gauges, facts, strict=True):
                gauge.labels(sink).set(fact)
        self._behind.set(seen.behind)
        self._set_aside.clear()
        for problem, users in seen.set_aside.items():
            self._set_aside.labels(problem).set(users)

    async def _counted(self) -> _Seen:
        """Count the queue of each sink that is behind, who is set aside for what, and changes that are unread."""
        found: dict[str, _Waiting] = {}
        async with borrowed(self._pools["reader"]) as connection:
            for each in self._publishers:
                queued: Sequence[float] | None = (0, 0.0)
                if each.behind:
                    asked = {"version": each.cursor, "limit": COUNTED}
                    queued = await row(connection, sql_files.sql("queries/queued"), asked)
                assert queued is not None
                found[each.name] = _Waiting(int(queued[0]), float(queued[1]))
            for sink, refused, dead in await rows(
                connection, sql_files.sql("queries/letters_counted"), {"limit": COUNTED}
            ):
                found[sink] = found.get(sink, _Waiting())._replace(refused=refused, dead=dead)
            aside = await rows(connection, sql_files.sql("queries/problems_counted"), {"limit": COUNTED})
            cursor = {"snapshot": self._line.snapshot, "limit": COUNTED}
            behind = await row(connection, sql_files.sql("queries/changes_behind"), cursor)
            assert behind is not None
        set_aside = dict.fromkeys(PROBLEMS, 0) | {problem: users for problem, users, _ in aside}
        return _Seen(found, set_aside, behind[0])


def _of_pool(pool: Pool, what: str) -> float:
    return float(pool.get_stats().get(what, 0))


def _by_sink(registry: CollectorRegistry, name: str, documentation: str) -> Gauge:
    return Gauge(name, documentation, ["sink"], registry=registry)


def _one_of(
    registry: CollectorRegistry, name: str, documentation: str, states: Sequence[str], now: Callable[[], str]
) -> None:
    """Export a state as one gauge for each value, of which one is 1."""

    def is_now(state: str) -> bool:
        return now() == state

    gauge = Gauge(name, documentation, ["state"], registry=registry)
    for state in states:
        gauge.labels(state).set_function(partial(is_now, state))
