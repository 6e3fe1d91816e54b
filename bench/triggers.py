"""What a capture trigger costs by how it is written; decided how ours is. `python -m bench.triggers`"""

from __future__ import annotations

import argparse
import time

from rich.console import Console
from rich.table import Table

from bench.figure import Figure
from bench.load import SERVER_SETTINGS, Writers, fill, flush
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

ROWS_DIFFER = f"({', '.join(f'OLD.{c}' for c in COLUMNS)}) IS DISTINCT FROM ({', '.join(f'NEW.{c}' for c in COLUMNS)})"

# The same, but the first column that differs ends the comparison.
ANY_DIFFERS = " OR ".join(f"OLD.{c} IS DISTINCT FROM NEW.{c}" for c in COLUMNS)


def row_trigger(condition: str = "") -> str:
    """Write a row trigger, for the rows that meet a condition."""
    when = f"WHEN ({condition})" if condition else ""
    return f"""
CREATE TRIGGER capture AFTER UPDATE ON public.user_credits FOR EACH ROW {when}
EXECUTE FUNCTION creditsd.capture();
"""


STATEMENT_TRIGGER = """
CREATE TRIGGER capture AFTER UPDATE ON public.user_credits
REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT
EXECUTE FUNCTION creditsd.capture();
"""

DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"

RING = """
    IF NOT pg_try_advisory_xact_lock_shared('creditsd.changes'::regclass::oid::int4, 806331267) THEN
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

# The comparison in the function, whose plan is kept for the session; a WHEN is parsed again for every statement.
COMPARED = f"IF NOT ({ANY_DIFFERS}) THEN RETURN NULL; END IF;" + GUARDED
COMPARED_ROWS = f"IF ({ROWS_DIFFER}) IS FALSE THEN RETURN NULL; END IF;" + GUARDED

SETWISE = "INSERT INTO creditsd.changes (user_id) SELECT user_id FROM before UNION SELECT user_id FROM after;" + RING


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
    "2 empty, WHEN (…) <> (…)": CHANGES + function("") + row_trigger(ROWS_DIFFER),
    "3 empty, WHEN a OR b …": CHANGES + function("") + row_trigger(ANY_DIFFERS),
    "4 empty, no WHEN": CHANGES + function("") + row_trigger(),
    "5 plain, WHEN (…)": CHANGES + function(INSERT) + row_trigger(ROWS_DIFFER),
    "6 definer+set, WHEN (…)": CHANGES + function(INSERT, DEFINER) + row_trigger(ROWS_DIFFER),
    "7 definer+set+guard, WHEN (…)": CHANGES + function(GUARDED, DEFINER) + row_trigger(ROWS_DIFFER),
    "8 definer+set+guard, no WHEN": CHANGES + function(GUARDED, DEFINER) + row_trigger(),
    "9 as 8, IF a OR b … inside": CHANGES + function(COMPARED, DEFINER) + row_trigger(),
    "a as 8, IF (…) <> (…) inside": CHANGES + function(COMPARED_ROWS, DEFINER) + row_trigger(),
    "b statement, definer+set": CHANGES + function(SETWISE, DEFINER) + STATEMENT_TRIGGER,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="the first letters of some variants, e.g. 178")
    parser.add_argument("--seconds", type=float, default=3, help="of each slice; 0: only what is not a rate")
    options = parser.parse_args()
    console = Console()
    with Postgres(settings=SERVER_SETTINGS) as server:
        chosen = [variant for variant in VARIANTS if not options.only or variant[0] in "1" + options.only]
        names = {variant: f"v{variant[0]}" for variant in chosen}
        for variant, name in names.items():
            fill(server, name, rows=ROWS, users=ROWS)
            server.psql(VARIANTS[variant], dbname=name)
        console.print(processor_time(server, names, options.rounds))
        for kind in ("ordinary", "slow") if options.seconds else ():
            flush(server, kind)
            console.print(one_row(server, names, kind, options.rounds, options.seconds))
        flush(server, "ordinary")
        console.print(one_statement(server, names, options.rounds))


def one_row(server: Postgres, names: dict[str, str], kind: str, rounds: int, seconds: float) -> Table:
    """Measure one-row updates, the variants in turn within each round."""
    table = Table(
        "trigger",
        *(f"{clients} clients" for clients in CLIENTS),
        title=f"one-row UPDATE tps, ratio to no trigger, {kind} flush",
    )
    cells: dict[str, list[str]] = {variant: [] for variant in names}
    for clients in CLIENTS:
        rates: dict[str, list[float]] = {variant: [] for variant in names}
        for turn in range(rounds):
            order = list(names) if turn % 2 == 0 else list(reversed(names))
            for variant in order:
                rates[variant].append(Writers(clients, ROWS).write(server, names[variant], seconds))
                forget(server, variant, names)
        figures = {variant: Figure(tuple(values)) for variant, values in rates.items()}
        for variant, figure in figures.items():
            ratio = figure.ratio_to(figures["1 none"]).as_ratio()
            cells[variant].append(f"{figure}\n{ratio}")
    for variant in names:
        table.add_row(variant, *cells[variant])
    return table


def processor_time(server: Postgres, names: dict[str, str], rounds: int) -> Table:
    """Measure what the backends spend on a transaction; whoever else uses the machine disturbs that less."""
    table = Table("trigger", "µs", "more than none", title="processor time of the backend per one-row UPDATE")
    costs: dict[str, list[float]] = {variant: [] for variant in names}
    for _ in range(rounds):
        for variant, name in names.items():
            server.psql("VACUUM public.user_credits", dbname=name)
            costs[variant].append(Writers(2, ROWS).microseconds(server, name, each=4000))
            forget(server, variant, names)
    none = Figure(tuple(costs["1 none"]))
    for variant, values in costs.items():
        figure = Figure(tuple(values))
        table.add_row(variant, str(figure), f"{figure.median - none.median:.0f}")
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
