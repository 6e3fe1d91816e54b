"""How many totals a second reach Valkey, for as long as there is work: creditsd against the hand-written daemon."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import psycopg
import redis

from bench.contenders import HANDWRITTEN, Contender, contenders, running
from bench.figure import figure
from bench.ground import Ground, Pace, rotated
from bench.sheet import Sheet
from tests.servers import Valkey

CHANGES = 40_000
WARM_SECONDS = 1.0  # a driver that is handed a burst of notifications sorts them first

BURST = "UPDATE public.user_credits SET credits = 1 + (credits + 7) %% 1000 WHERE id <= %s"


def measure(ground: Ground, pace: Pace) -> dict[str, Any]:
    """Change so many users at once, and count what is published from the first total on, for so long at most."""
    with contenders(ground, ["handwritten"]) as both:
        rates: dict[str, list[float]] = {contender.name: [] for contender in both}
        for turn in range(pace.rounds):
            for contender in rotated(both, turn):
                rates[contender.name].append(sustained(contender, pace.seconds))
        return {"changes": CHANGES, "totals_per_second": rates}


def sustained(contender: Contender, seconds: float, changes: int = CHANGES) -> float:
    """Return the totals a second."""
    before = published(contender.valkey)
    if contender.likes_backlog:
        burst(contender, changes)
    with running(contender):
        if not contender.likes_backlog:
            before = published(contender.valkey)
            burst(contender, changes)
        return rate(contender.valkey, before, changes, seconds, warm_seconds=WARM_SECONDS)


def burst(contender: Contender, changes: int) -> None:
    with psycopg.connect(contender.dsn, autocommit=True) as connection:
        connection.execute(BURST, (changes,))
        if contender.likes_backlog:
            connection.execute("ANALYZE")


def rate(valkey: Valkey, before: int, expected: int, seconds: float, *, warm_seconds: float = 0.0) -> float:
    """Count from the first to the last, or for so long once warm; Valkey's own counters cost nobody anything."""
    patience = time.perf_counter() + 30
    while (first := published(valkey)) == before:
        if time.perf_counter() > patience:
            return 0.0
        time.sleep(0.005)
    begun = time.perf_counter()
    warm = begun + warm_seconds
    done, moment = first, begun
    while done - before < expected and moment < warm + seconds:
        time.sleep(0.01)
        done, moment = published(valkey), time.perf_counter()
        if begun < warm <= moment and done - before < expected:
            first, begun = done, moment
    return (done - first) / max(moment - begun, 1e-9)


def published(valkey: Valkey) -> int:
    """Return how often anything was published there."""
    with redis.Redis(host=valkey.host, port=valkey.port) as client:
        stats: Any = client.info("commandstats")
    return int(stats.get("cmdstat_publish", {}).get("calls", 0))


def sheets(found: Mapping[str, Any]) -> list[Sheet]:
    floor = figure(found["totals_per_second"][HANDWRITTEN])
    rows = [
        [name, str(each := figure(rates)), each.ratio_to(floor).as_ratio()]
        for name, rates in found["totals_per_second"].items()
    ]
    title = f"totals per second into Valkey while {found['changes']} changed users wait: median (lowest-highest)"
    return [Sheet(title, ["", "totals/s", f"/ {HANDWRITTEN}"], rows)]
