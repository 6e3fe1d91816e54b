"""The demo's sink: collects what arrives, for whoever shows it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from creditsd.demo.commits import Age, Commits
from creditsd.demo.people import YOU
from creditsd.domain.total import Total
from creditsd.sinks import Rejection

MAX_BATCH = 1000
HISTORY_SECONDS = 60
LATENCIES = 2000


@dataclass(frozen=True, slots=True)
class Arrival:
    """A total that has arrived: whose, how far from the one before, how soon, and whether the demo caused it."""

    total: Total
    name: str
    step: Decimal
    age: Age
    at: float  # monotonic


class Board:
    """Takes every total and counts; `announce` is told of each that is news."""

    max_batch = MAX_BATCH

    def __init__(self, names: dict[str, str], commits: Commits, announce: Callable[[Sequence[Arrival]], None]) -> None:
        self._names = names
        self._commits = commits
        self._announce = announce
        self._users: set[str] = set()
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._per_second: dict[int, int] = {}
        self._began = time.monotonic()
        self.told = asyncio.Event()  # of the first batch, which is everyone: they fit into one
        self.arrived = 0
        self.causes: dict[str, int] = {}

    async def open(self) -> None:
        """Nothing to connect."""

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Take note, and pass the news on."""
        now, at = time.time(), time.monotonic()
        self._users.update(total.user_id for total in totals)
        self.told.set()
        # Everyone's first total is no news, but for the visitor, who shall find theirs on the screen.
        news = [total for total in totals if total.cause != "backfill" or total.user_id == str(YOU)]
        ages = await self._commits.ages(news, now)
        arrivals = [
            Arrival(total, self._name(total.user_id), _step(total), age, at)
            for total, age in zip(news, ages, strict=True)
        ]
        self._count(arrivals, at)
        if arrivals:
            self._announce(arrivals)
        return []

    async def held(self, user_id: str) -> int | None:  # noqa: ARG002  the protocol's signature
        """Tell nothing: nobody asks."""
        return None

    async def close(self) -> None:
        """Nothing to disconnect."""

    @property
    def users(self) -> int:
        """How many users have been told of."""
        return len(self._users)

    def percentile(self, percent: int) -> float | None:
        """Return a percentile of the milliseconds from commit to here, or None while too little has arrived."""
        if len(self._latencies) < 2:
            return None
        return statistics.quantiles(self._latencies, n=100)[percent - 1]

    def rate(self) -> float:
        """Return the totals a second of the last five whole seconds."""
        *whole, _ = self.history()[-6:]
        return sum(whole) / len(whole) if whole else 0.0

    def history(self) -> list[int]:
        """Return how many totals arrived in each of the last seconds; the last one is still under way."""
        now = int(time.monotonic() - self._began)
        return [self._per_second.get(second, 0) for second in range(max(0, now - HISTORY_SECONDS), now + 1)]

    def _count(self, arrivals: Sequence[Arrival], at: float) -> None:
        second = int(at - self._began)
        self.arrived += len(arrivals)
        self._per_second[second] = self._per_second.get(second, 0) + len(arrivals)
        self._per_second.pop(second - HISTORY_SECONDS - 1, None)
        for arrival in arrivals:
            self.causes[arrival.total.cause] = self.causes.get(arrival.total.cause, 0) + 1
            if arrival.age.milliseconds is not None and arrival.total.cause != "expiry":  # that had no commit
                self._latencies.append(arrival.age.milliseconds)

    def _name(self, user_id: str) -> str:
        return self._names.get(user_id, f"{user_id[:8]}…")


def _step(total: Total) -> Decimal:
    before = total.previous
    return total.credits - (0 if before is None else Decimal(before["credits"]))
