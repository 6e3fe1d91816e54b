"""What the writers pay: one-row updates without a trigger, with NOTIFY per row, and with creditsd."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import Figure
from bench.line import Line
from bench.load import FLUSHES, Writers, fill, flush
from tests.servers import Postgres, Valkey

ROWS = 100_000
CLIENTS = (1, 16, 64)

NO_TRIGGER = "no trigger"
NOTIFY = "NOTIFY per row"
STOPPED = "creditsd, daemon stopped"
RUNNING = "creditsd running"

SHORT = {NOTIFY: "NOTIFY", STOPPED: "stopped", RUNNING: "running"}

# As it is commonly written. Nobody listens here, which is kind to it: a listener wants the processor too.
NOTIFY_TRIGGER = """
CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM pg_notify('user_credits', NEW.user_id::text);
    RETURN NULL;
END
$body$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON public.user_credits FOR EACH ROW EXECUTE FUNCTION public.tell();
"""


@dataclass(slots=True)
class Variant:
    """A database of its own, and what has to run while it is written to."""

    name: str
    dbname: str
    during: Callable[[], AbstractContextManager[object]] = nullcontext
    behind_seconds: list[float] = field(default_factory=list)


def variants(server: Postgres, valkey: Valkey, *, with_creditsd: bool) -> list[Variant]:
    """Fill one database a variant."""
    fill(server, "plain", rows=ROWS, users=ROWS)
    fill(server, "notify", rows=ROWS, users=ROWS)
    server.psql(NOTIFY_TRIGGER, dbname="notify")
    found = [Variant(NO_TRIGGER, "plain"), Variant(NOTIFY, "notify")]
    if with_creditsd:
        for name, dbname in ((STOPPED, "stopped"), (RUNNING, "running")):
            line = Line(fill(server, dbname, rows=ROWS, users=ROWS), valkey)
            line.install()
            variant = Variant(name, dbname)
            if name == RUNNING:
                variant.during = lambda line=line, variant=variant: running(line, variant)  # type: ignore[misc]
            found.append(variant)
    return found


@contextmanager
def running(line: Line, variant: Variant) -> Iterator[None]:
    """Run the daemon, warm and caught up; afterwards note how far behind the writers it was at their end."""
    with line:
        line.wait_until_ready()
        line.wait_until_caught_up()
        yield
        variant.behind_seconds.append(line.wait_until_caught_up())


def measure(server: Postgres, found: Sequence[Variant], rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Measure cell by cell, within a cell round by round, within a round one variant after the other."""
    for kind in FLUSHES:
        flush(server, kind)
        for clients in CLIENTS:
            rates: dict[str, list[float]] = {variant.name: [] for variant in found}
            for variant in found:
                variant.behind_seconds.clear()
            for turn in range(rounds):
                for variant in rotated(found, turn):
                    server.psql("VACUUM public.user_credits", dbname=variant.dbname)
                    with variant.during():
                        rate = Writers(clients, ROWS).write(server, variant.dbname, seconds)
                    rates[variant.name].append(rate)
            behind = {variant.name: list(variant.behind_seconds) for variant in found if variant.behind_seconds}
            yield {"flush": kind, "clients": clients, "tps": rates, "behind_seconds": behind}
    flush(server, "ordinary")


def rotated(found: Sequence[Variant], turn: int) -> list[Variant]:
    """Let another variant go first in each round."""
    start = turn % len(found)
    return [*found[start:], *found[:start]]


def show(console: Console, cells: Sequence[Mapping[str, Any]]) -> None:
    """Print the variants side by side, a row a cell."""
    names = list(cells[0]["tps"])
    table = Table("flush", "clients", *names, title="one-row UPDATE, transactions per second: median (lowest-highest)")
    ratios = Table("flush", "clients", title="ratios, round by round: median (lowest-highest)")
    for name in names[1:]:
        ratios.add_column(f"{SHORT[name]} / none")
    for name in names[2:]:
        ratios.add_column(f"{SHORT[name]} / NOTIFY")
    if RUNNING in names:
        ratios.add_column("behind after, ms")
    for cell in cells:
        figures = {name: Figure(tuple(values)) for name, values in cell["tps"].items()}
        head = (cell["flush"], str(cell["clients"]))
        table.add_row(*head, *(str(figure) for figure in figures.values()))
        row = [figures[name].ratio_to(figures[NO_TRIGGER]).as_ratio() for name in names[1:]]
        row += [figures[name].ratio_to(figures[NOTIFY]).as_ratio() for name in names[2:]]
        row += [str(Figure(tuple(s * 1000 for s in behind))) for behind in cell["behind_seconds"].values()]
        ratios.add_row(*head, *row)
    console.print(table, ratios)
