"""What the writers pay: no trigger, an empty one, NOTIFY per row, creditsd with its daemon stopped, and running."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from bench.figure import Figure, figure
from bench.ground import Ground, Pace, rotated
from bench.line import Line
from bench.load import EVERY_ROW, FLUSHES, HUNDRED_ROWS, ONE_ROW, Writers, flush
from bench.peers.handwritten import TRIGGER as NOTIFY_TRIGGER
from bench.sheet import Sheet

ROWS = 100_000
CLIENTS = (1, 16, 64)

NO_TRIGGER = "no trigger"
EMPTY = "empty trigger"
NOTIFY = "NOTIFY per row"
STOPPED = "creditsd, daemon stopped"
RUNNING = "creditsd running"

SHORT = {EMPTY: "empty", NOTIFY: "NOTIFY", STOPPED: "stopped", RUNNING: "running"}

# The floor for anything that captures by trigger.
EMPTY_TRIGGER = """
CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RETURN NULL;
END
$body$;
CREATE TRIGGER nothing AFTER INSERT OR UPDATE ON public.user_credits FOR EACH ROW EXECUTE FUNCTION public.nothing();
"""

TRIGGERS = {NO_TRIGGER: "", EMPTY: EMPTY_TRIGGER, NOTIFY: NOTIFY_TRIGGER}


@dataclass(slots=True)
class Variant:
    """A database of its own, and what has to happen around each slice of writing."""

    name: str
    dbname: str
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    behind_seconds: list[float] = field(default_factory=list)


@contextmanager
def variants(ground: Ground, names: Sequence[str] = (*TRIGGERS, STOPPED, RUNNING)) -> Iterator[list[Variant]]:
    """Fill one database a variant. The daemon stays up: it sleeps while the others are measured.

    Nobody listens to the NOTIFY trigger here, which is kind to it: a listener wants the processor too.
    """
    made: list[Variant] = []
    with ExitStack() as ends:
        for number, name in enumerate(names):
            variant = Variant(name, f"writers{number}")
            dsn = ground.filled(variant.dbname, rows=ROWS, users=ROWS)
            if name in TRIGGERS:
                ground.server.psql(TRIGGERS[name] or "SELECT", dbname=variant.dbname)
            else:
                line = Line(dsn, ground.valkey)
                line.install()
                if name == RUNNING:
                    ends.enter_context(line)
                    line.wait_until_ready()
                    variant.around = lambda line=line, variant=variant: caught_up(line, variant)  # type: ignore[misc]
            made.append(variant)
        yield made
    ground.drop(*(variant.dbname for variant in made))


@contextmanager
def caught_up(line: Line, variant: Variant) -> Iterator[None]:
    """Begin with nothing to do; afterwards note how far behind the writers the daemon was at their end."""
    line.wait_until_caught_up()
    yield
    variant.behind_seconds.append(line.wait_until_caught_up())


def measure(ground: Ground, pace: Pace) -> dict[str, Any]:
    """Measure cell by cell, within a cell round by round, within a round one variant after the other."""
    with variants(ground) as found:
        cells = []
        short = Pace(pace.rounds, max(1.0, pace.seconds / 2))
        for kind in FLUSHES:
            flush(ground.server, kind)
            for clients in CLIENTS if kind != "very slow" else CLIENTS[1:2]:
                full = kind == "slow" and clients > 1
                cells.append(
                    {"flush": kind, "rows": 1, **cell(ground, found, pace if full else short, clients, ONE_ROW)}
                )
                ground.say(f"{kind} flush, {clients} clients: done")
        flush(ground.server, "ordinary")
        cells += [
            {"flush": "ordinary", "rows": 100, **cell(ground, found, short, clients, HUNDRED_ROWS)}
            for clients in CLIENTS[:2]
        ]
        ground.say("statements of 100 rows: done")
        return {"cells": cells, "statement": statement(ground, found, pace.rounds)}


def cell(ground: Ground, found: Sequence[Variant], pace: Pace, clients: int, script: str) -> dict[str, Any]:
    """Measure the variants side by side at so many clients."""
    rates: dict[str, list[float]] = {variant.name: [] for variant in found}
    for variant in found:
        variant.behind_seconds.clear()
    for turn in range(pace.rounds):
        for variant in rotated(found, turn):
            tidy(ground, variant)
            with variant.around():
                rate = Writers(clients, ROWS, script).write(ground.server, variant.dbname, pace.seconds)
            rates[variant.name].append(rate)
    behind = {variant.name: list(variant.behind_seconds) for variant in found if variant.behind_seconds}
    return {"clients": clients, "tps": rates, "behind_seconds": behind}


def statement(ground: Ground, found: Sequence[Variant], rounds: int) -> dict[str, list[float]]:
    """Measure one statement that changes every row, in seconds."""
    seconds: dict[str, list[float]] = {variant.name: [] for variant in found}
    for turn in range(rounds):
        for variant in rotated(found, turn):
            tidy(ground, variant)
            with variant.around(), ground.server.connect(variant.dbname) as connection:
                begun = time.perf_counter()
                connection.execute(EVERY_ROW)
                seconds[variant.name].append(time.perf_counter() - begun)
    ground.say(f"one statement of {ROWS} rows: done")
    return seconds


def tidy(ground: Ground, variant: Variant) -> None:
    """Let every slice begin alike; a running daemon tidies up behind itself."""
    ground.server.psql("VACUUM public.user_credits", dbname=variant.dbname)
    if variant.name == STOPPED:
        ground.server.psql("TRUNCATE creditsd.changes", dbname=variant.dbname)


def sheets(found: Mapping[str, Any]) -> list[Sheet]:
    single = [cell for cell in found["cells"] if cell["rows"] == 1]
    hundred = [cell for cell in found["cells"] if cell["rows"] == 100]
    made = [
        _rates("one-row UPDATE, transactions per second: median (lowest-highest)", single),
        _ratios("one-row UPDATE, ratios round by round: median (lowest-highest)", single),
        _rates("UPDATE of 100 rows, statements per second: median (lowest-highest)", hundred),
        _ratios("UPDATE of 100 rows, ratios round by round: median (lowest-highest)", hundred),
    ]
    times = {name: figure(values) for name, values in found["statement"].items()}
    rows = [
        [name, each.as_ratio(), each.ratio_to(times[NO_TRIGGER]).as_ratio(), each.ratio_to(times[EMPTY]).as_ratio()]
        for name, each in times.items()
    ]
    title = f"one UPDATE of {ROWS} rows, ordinary flush, one client: seconds, and ratios of the time"
    return [*made, Sheet(title, ["", "seconds", "time / none", "time / empty"], rows)]


def _rates(title: str, cells: Sequence[Mapping[str, Any]]) -> Sheet:
    names = list(cells[0]["tps"])
    rows = [
        [cell["flush"], str(cell["clients"]), *(str(figure(cell["tps"][name])) for name in names)] for cell in cells
    ]
    return Sheet(title, ["flush", "clients", *names], rows)


def _ratios(title: str, cells: Sequence[Mapping[str, Any]]) -> Sheet:
    pairs = [(name, NO_TRIGGER) for name in (EMPTY, NOTIFY, STOPPED, RUNNING)]
    pairs += [(STOPPED, EMPTY), (RUNNING, NOTIFY)]
    head = ["flush", "clients", *(f"{SHORT[name]} / {SHORT.get(other, 'none')}" for name, other in pairs)]
    rows = []
    for cell in cells:
        figures: dict[str, Figure] = {name: figure(values) for name, values in cell["tps"].items()}
        ratios = [figures[name].ratio_to(figures[other]).as_ratio() for name, other in pairs]
        behind = figure(cell["behind_seconds"][RUNNING]).as_ratio()
        rows.append([cell["flush"], str(cell["clients"]), *ratios, behind])
    return Sheet(title, [*head, "behind at the end, s"], rows)
