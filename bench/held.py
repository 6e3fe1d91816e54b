"""What a transaction costs that is held open the whole time: the same measured with and without one, in turns."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from bench.catchup import Backlog
from bench.contenders import Contender, contenders
from bench.figure import figure
from bench.ground import FREE, HELD, Ground, Pace, held_open, rotated
from bench.latency import idle, steady
from bench.load import Writers, flush
from bench.sheet import Sheet
from bench.writers import ROWS, RUNNING, tidy, variants

CLIENTS = 16
RATE = 1_000
WAYS = (FREE, HELD)


def measure(ground: Ground, pace: Pace) -> dict[str, Any]:
    """Measure writers at the slow flush, latency idle and at a rate, and catching up."""
    found: dict[str, Any] = {"writers": writers(ground, pace)}
    ground.say("writers: done")
    found["latency"] = latency(ground, pace)
    ground.say("latency: done")
    return {**found, "catchup": catchup(ground, pace)}


def writers(ground: Ground, pace: Pace) -> dict[str, list[float]]:
    """Measure the writers' rate with the daemon running."""
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    flush(ground.server, "slow")
    with variants(ground, [RUNNING]) as (variant,):
        for turn in range(pace.rounds):
            for way in rotated(WAYS, turn):
                tidy(ground, variant)
                with around(way, ground.server.dsn(variant.dbname)), variant.around():
                    rate = Writers(CLIENTS, ROWS).write(ground.server, variant.dbname, pace.seconds)
                rates[way].append(rate)
    flush(ground.server, "ordinary")
    return rates


def latency(ground: Ground, pace: Pace) -> dict[str, dict[str, list[Any]]]:
    """Measure creditsd's latency; it stays up."""
    found: dict[str, dict[str, list[Any]]] = {what: {way: [] for way in WAYS} for what in ("idle", f"{RATE} changes/s")}
    with contenders(ground, []) as (ours,):
        ours.start()
        for turn in range(pace.rounds):
            for way in rotated(WAYS, turn):
                with around(way, ours.dsn):
                    found["idle"][way].append(idle(ours.dsn, ours.valkey, pace.seconds))
                    found[f"{RATE} changes/s"][way].append(at_rate(ours, pace))
        ours.stop()
    return found


def at_rate(ours: Contender, pace: Pace) -> dict[str, Any]:
    return steady(ours.dsn, ours.valkey, RATE, pace.seconds)


def catchup(ground: Ground, pace: Pace) -> dict[str, list[Any]]:
    """Measure a smaller backlog than the part catchup does; what bare SQL loses is not ours to answer for."""
    rows, users = ground.sized(200_000, 20_000), ground.sized(40_000, 4_000)
    backlog = Backlog(ground, "held", rows=rows, users=users)
    found: dict[str, list[Any]] = {way: [] for way in WAYS}
    for turn in range(pace.rounds):
        for way in rotated(WAYS, turn):
            found[way].append(backlog.round(lambda way=way: around(way, backlog.dsn)))  # type: ignore[misc]
    ground.drop("held")
    return found


def around(way: str, dsn: str) -> AbstractContextManager[None]:
    return held_open(dsn) if way == HELD else nullcontext()


def sheets(found: Mapping[str, Any]) -> list[Sheet]:
    rates = {way: figure(found["writers"][way]) for way in WAYS}
    rows = [[f"writers, {CLIENTS} clients, slow flush, tps", *map(str, rates.values()), kept(rates[HELD], rates[FREE])]]
    for what, blocks in found["latency"].items():
        for p in ("p50", "p99"):
            figures = {way: figure([each[p] for each in blocks[way]]) for way in WAYS}
            texts = (each.as_ratio() for each in figures.values())
            rows.append([f"latency, {what}, {p} ms", *texts, kept(figures[FREE], figures[HELD])])
    for name, key in (("catching up, seconds", "seconds"), ("the same by plain SQL, seconds", "sql_seconds")):
        figures = {way: figure([each[key] for each in found["catchup"][way]]) for way in WAYS}
        rows.append([name, *(each.as_ratio() for each in figures.values()), kept(figures[FREE], figures[HELD])])
    title = "with a transaction held open the whole time: median (lowest-highest)"
    return [Sheet(title, ["", "without", "with", "performance kept"], rows)]


def kept(better: Any, worse: Any) -> str:
    return str(better.ratio_to(worse).as_ratio())
