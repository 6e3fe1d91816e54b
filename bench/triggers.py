"""What a capture trigger costs by how it is written; decided how ours is. `python -m bench.triggers`"""

from __future__ import annotations

import argparse
import time

from rich.console import Console
from rich.table import Table

from bench.figures import Figure
from bench.load import FLUSHES, SERVER_SETTINGS, Writers, backend_seconds, fill, flush
from tests.servers import Postgres

ROWS = 100_000
CLIENTS = (1, 16, 64)

CHANGES = """
CREATE SCHEMA creditsd;
CREATE TABLE creditsd.changes (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    user_id uuid
);
CREATE INDEX changes_xid_user_id ON creditsd.changes (xid, user_id);
"""

COLUMNS = (
    "user_id",
    "credits",
    "status",
    "plan_type",
    "membership",
    "subscription_id",
    "expires_at",
    "created_at",
)

ROW_TRIGGER = f"""
CREATE TRIGGER capture AFTER UPDATE ON public.user_credits FOR EACH ROW
WHEN (({", ".join(f"OLD.{c}" for c in COLUMNS)}) IS DISTINCT FROM ({", ".join(f"NEW.{c}" for c in COLUMNS)}))
EXECUTE FUNCTION creditsd.capture();
"""

STATEMENT_TRIGGER = """
CREATE TRIGGER capture AFTER UPDATE ON public.user_credits
REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT
EXECUTE FUNCTION creditsd.capture();
"""

DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"

RING = """
    IF NOT pg_try_advisory_xact_lock_shared('creditsd.changes'::regclass::oid::int4, 1) THEN
        NOTIFY creditsd;
    END IF;
"""

INSERT = "INSERT INTO creditsd.changes (user_id) VALUES (NEW.user_id);" + RING

GUARDED = (
    """
    BEGIN
        u := NEW.user_id;
    EXCEPTION WHEN OTHERS THEN
        u := NULL;
    END;
    INSERT INTO creditsd.changes (user_id) VALUES (u);
"""
    + RING
)

SETWISE = (
    "INSERT INTO creditsd.changes (user_id) SELECT user_id FROM before UNION SELECT user_id FROM after;"
    + RING
)


def function(body: str, attributes: str = "") -> str:
    """Write the trigger function with a body and attributes."""
    return f"""
CREATE FUNCTION creditsd.capture() RETURNS trigger LANGUAGE plpgsql {attributes} AS $body$
DECLARE u uuid;
BEGIN
    {body}
    RETURN NULL;
END
$body$;
"""


VARIANTS = {
    "1 none": "",
    "2 empty": CHANGES + function("") + ROW_TRIGGER,
    "3 definer+set": CHANGES + function(INSERT, DEFINER) + ROW_TRIGGER,
    "4 plain": CHANGES + function(INSERT) + ROW_TRIGGER,
    "5 definer+set+guard": CHANGES + function(GUARDED, DEFINER) + ROW_TRIGGER,
    "6 statement definer+set": CHANGES + function(SETWISE, DEFINER) + STATEMENT_TRIGGER,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    console = Console()
    with Postgres(settings=SERVER_SETTINGS) as server:
        names = {variant: f"v{variant[0]}" for variant in VARIANTS}
        for variant, statements in VARIANTS.items():
            fill(server, names[variant], rows=ROWS, users=ROWS)
            server.psql(statements, dbname=names[variant])
        for kind in FLUSHES:
            flush(server, kind)
            console.print(one_row(server, names, kind, options.rounds, options.seconds))
        flush(server, "ordinary")
        console.print(one_statement(server, names, options.rounds))


def one_row(server: Postgres, names: dict[str, str], kind: str, rounds: int, seconds: float) -> Table:
    """Measure one-row updates, the variants in turn within each round."""
    table = Table(
        "trigger",
        *(f"{clients} clients" for clients in CLIENTS),
        title=f"one-row UPDATE tps, ratio to no trigger, processor time of the backend, {kind} flush",
    )
    cells: dict[str, list[str]] = {variant: [] for variant in names}
    costs: dict[str, list[float]]
    for clients in CLIENTS:
        rates: dict[str, list[float]] = {variant: [] for variant in names}
        costs = {variant: [] for variant in names}
        for turn in range(rounds):
            order = list(names) if turn % 2 == 0 else list(reversed(names))
            for variant in order:
                begun = backend_seconds(server)
                rates[variant].append(Writers(clients, ROWS).write(server, names[variant], seconds))
                spent = backend_seconds(server) - begun
                costs[variant].append(spent * 1_000_000 / seconds / rates[variant][-1])
                forget(server, variant, names)
        figures = {variant: Figure(tuple(values)) for variant, values in rates.items()}
        for variant, figure in figures.items():
            ratio = figure.ratio_to(figures["1 none"]).as_ratio()
            cells[variant].append(f"{figure}\n{ratio}\n{Figure(tuple(costs[variant]))} µs")
    for variant in names:
        table.add_row(variant, *cells[variant])
    return table


def one_statement(server: Postgres, names: dict[str, str], rounds: int) -> Table:
    """Measure one statement that changes every row."""
    table = Table("trigger", "ms", title=f"one UPDATE of {ROWS} rows, ordinary flush")
    times: dict[str, list[float]] = {variant: [] for variant in names}
    for _ in range(rounds):
        for variant, name in names.items():
            server.psql("VACUUM public.user_credits", dbname=name)
            with server.connect(name) as connection:
                begun = time.perf_counter()
                connection.execute("UPDATE public.user_credits SET credits = 1 + (credits + 7) % 1000")
                times[variant].append((time.perf_counter() - begun) * 1000)
            forget(server, variant, names)
    for variant, values in times.items():
        table.add_row(variant, str(Figure(tuple(values))))
    return table


def forget(server: Postgres, variant: str, names: dict[str, str]) -> None:
    """Empty the changes, so that every slice begins alike."""
    if VARIANTS[variant]:
        server.psql("TRUNCATE creditsd.changes", dbname=names[variant])


if __name__ == "__main__":
    main()
