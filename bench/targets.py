"""What creditsd is to reach, beside what it reached: every ratio is taken within a run, round by round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import isolation, publisher, webhooks, writers
from bench.contenders import CREDITSD, HANDWRITTEN
from bench.figure import Figure, figure
from bench.ground import FREE, HELD
from bench.latency import described, kept_up
from bench.sheet import Sheet
from bench.streams import CREDITSD as CREDITSD_SERVE
from bench.streams import FLOOR

Kept = Mapping[str, Mapping[str, Any]]

BEHIND = "seconds behind when 16 writers stop, slow flush"
MOST_MS = {1_000: 2.5, 5_000: 150}  # at rates at which the hand-written daemon may not keep up


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and its bound: the least it may be, or the most."""

    what: str
    reached: Figure
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        median = self.reached.median
        return (self.least is None or median >= self.least) and (self.most is None or median <= self.most)

    def row(self) -> list[str]:
        bound = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
        return [self.what, bound, self.reached.as_ratio(), "yes" if self.met else "no"]


def reached(kept: Kept) -> Iterator[Target]:
    """Return every target whose part was measured, with its figure."""
    for name, of in PARTS.items():
        if name in kept:
            yield from of(kept[name]["found"])


def sheet(kept: Kept) -> Sheet:
    """Compare every target whose part was measured."""
    rows = [target.row() for target in reached(kept)]
    return Sheet("targets, and the median of the rounds (lowest-highest)", ["", "wanted", "reached", "met"], rows)


def _writers(found: Mapping[str, Any]) -> Iterator[Target]:
    cells = {(each["flush"], each["clients"]): each["tps"] for each in found["cells"] if each["rows"] == 1}

    def ratio(kind: str, clients: int, name: str, other: str) -> Figure:
        tps = cells[kind, clients]
        return figure(tps[name]).ratio_to(figure(tps[other]))

    for name, other, kind, bounds in (
        (writers.RUNNING, writers.NO_TRIGGER, "slow", {16: 0.88, 64: 0.58}),
        (writers.STOPPED, writers.NO_TRIGGER, "slow", {16: 0.93, 64: 0.65}),
        (writers.RUNNING, writers.NOTIFY, "slow", {16: 11, 64: 14}),
        (writers.STOPPED, writers.EMPTY, "ordinary", {1: 0.85, 16: 0.88, 64: 0.88}),
    ):
        for clients, least in bounds.items():
            what = f"writers, {kind} flush, {clients} client{'s' * (clients > 1)}: {name} / {other}"
            yield Target(what, ratio(kind, clients, name, other), least=least)
    yield Target(BEHIND, figure(_behind(found)), most=0.05)
    yield Target(
        f"statements of 100 rows, 16 clients: {writers.STOPPED} / {writers.NO_TRIGGER}", _hundred(found), least=0.6
    )
    times = {name: figure(values) for name, values in found["statement"].items()}
    statement = times[writers.STOPPED].ratio_to(times[writers.NO_TRIGGER])
    yield Target(f"a statement of {writers.ROWS} rows: time / {writers.NO_TRIGGER}", statement, most=1.4)


def _behind(found: Mapping[str, Any]) -> Sequence[float]:
    (cell,) = (each for each in found["cells"] if (each["flush"], each["clients"], each["rows"]) == ("slow", 16, 1))
    seconds: Sequence[float] = cell["behind_seconds"][writers.RUNNING]
    return seconds


def _hundred(found: Mapping[str, Any]) -> Figure:
    (tps,) = (each["tps"] for each in found["cells"] if (each["clients"], each["rows"]) == (16, 100))
    return figure(tps[writers.STOPPED]).ratio_to(figure(tps[writers.NO_TRIGGER]))


def _latency(found: Mapping[str, Any]) -> Iterator[Target]:
    for cell in found["cells"]:
        mine, floor = cell["blocks"][CREDITSD], cell["blocks"][HANDWRITTEN]
        if cell["rate"] in MOST_MS:
            late = figure([each["p50"] for each in mine])
            yield Target(f"commit to Redis, {described(cell['rate'])}, p50 ms", late, most=MOST_MS[cell["rate"]])
        if not kept_up(floor):
            continue
        for p in ("p50", "p99"):
            ratio = figure([each[p] for each in mine]).ratio_to(figure([each[p] for each in floor]))
            yield Target(f"commit to Redis, {described(cell['rate'])}, {p} / {HANDWRITTEN}", ratio, most=1.5)


def _totals(found: Mapping[str, Any]) -> Iterator[Target]:
    rates = found["totals_per_second"]
    yield Target(
        f"totals a second / {HANDWRITTEN}", figure(rates[CREDITSD]).ratio_to(figure(rates[HANDWRITTEN])), least=10
    )


def _catchup(found: Mapping[str, Any]) -> Iterator[Target]:
    rounds = found["rounds"]
    ratio = figure([each["sql_seconds"] for each in rounds]).ratio_to(figure([each["seconds"] for each in rounds]))
    yield Target("catching up, users a second / set-based SQL alone", ratio, least=0.48)


def _held(found: Mapping[str, Any]) -> Iterator[Target]:
    rates = found["writers"]
    yield Target("a transaction held open: writers", figure(rates[HELD]).ratio_to(figure(rates[FREE])), least=0.85)
    for what, blocks in found["latency"].items():
        for p in ("p50", "p99"):
            without, held = (figure([each[p] for each in blocks[way]]) for way in (FREE, HELD))
            yield Target(f"a transaction held open: {p}, {what}", without.ratio_to(held), least=0.85)
    mine, plain = (_kept(found["catchup"], key) for key in ("seconds", "sql_seconds"))
    yield Target("a transaction held open: catching up, but for what plain SQL loses", mine.ratio_to(plain), least=0.85)


def _kept(ways: Mapping[str, Sequence[Mapping[str, float]]], key: str) -> Figure:
    without, held = (figure([each[key] for each in ways[way]]) for way in (FREE, HELD))
    return without.ratio_to(held)


def _idle(found: Mapping[str, Any]) -> Iterator[Target]:
    rounds = found["rounds"]
    yield Target("memory when idle after a backfill, MiB", figure([each["resident_mib"] for each in rounds]), most=77)
    if "restarted_mib" in found:
        yield Target("memory when idle after a restart, MiB", figure(found["restarted_mib"]), most=71)
    yield Target("queries a minute when idle", figure([each["queries_per_minute"] for each in rounds]), most=6)


def _growth(found: Sequence[Mapping[str, Any]]) -> Iterator[Target]:
    largest = max(found, key=lambda each: each["users"])
    peak = figure([largest["recompute"]["peak_mib"]])
    yield Target(f"memory while {largest['users']} users are recomputed, MiB", peak, most=120)


def _publisher(found: Mapping[str, Any]) -> Iterator[Target]:
    names = (publisher.SINK, publisher.LINE)
    yield from _against("totals into Valkey", found["totals_per_second"], publisher.LOOP, names, least=0.6)


def _webhooks(found: Mapping[str, Any]) -> Iterator[Target]:
    names = (webhooks.SINK, webhooks.LINE)
    yield from _against("webhooks", found["webhooks_per_second"], webhooks.CLIENT, names, least=0.7)


def _against(
    what: str, rates: Mapping[str, Sequence[float]], floor: str, names: Sequence[str], *, least: float
) -> Iterator[Target]:
    for name in names:
        ratio = figure(rates[name]).ratio_to(figure(rates[floor]))
        yield Target(f"{what}: {name} / {floor}", ratio, least=least)


def _streams(found: Mapping[str, Any]) -> Iterator[Target]:
    mine, floor = (
        figure([each["cpu_us_per_message_together"] for each in found["contenders"][name]])
        for name in (CREDITSD_SERVE, FLOOR)
    )
    yield Target(f"a stream's message, processor / {FLOOR}", mine.ratio_to(floor), most=2)


def _isolation(found: Mapping[str, Any]) -> Iterator[Target]:
    ways = (isolation.ALONE, isolation.BESIDE)
    alone, beside = (figure([each["p99"] for each in found["blocks"][way]]) for way in ways)
    yield Target("a healthy sink beside a dead and a hanging one: p99 / alone", beside.ratio_to(alone), most=1.2)


PARTS: Mapping[str, Callable[[Any], Iterator[Target]]] = {
    "writers": _writers,
    "latency": _latency,
    "totals": _totals,
    "publisher": _publisher,
    "catchup": _catchup,
    "held": _held,
    "idle": _idle,
    "growth": _growth,
    "isolation": _isolation,
    "webhooks": _webhooks,
    "streams": _streams,
}
