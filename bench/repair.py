"""What `verify --repair` costs where everyone has drifted: users a second, and processor time a user of each part.

Run as `python -m bench.repair`, with `--sink` to have it ask a Valkey, too. A daemon leads, and mends.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping

import psycopg
from rich.console import Console

from bench.figure import grouped
from bench.ground import Ground
from bench.line import Line
from bench.load import SERVER_SETTINGS
from bench.processor import server_seconds
from tests.servers import Postgres, Valkey

ROWS_EACH = 3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.repair", description=__doc__)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sink", action="store_true", help="ask the sink, too")
    options = parser.parse_args()
    asked = ["--sink", "redis"] if options.sink else []
    with Postgres(settings=SERVER_SETTINGS) as server, Valkey() as valkey:
        ground = Ground(server, valkey, Console())
        dsn = ground.filled("repair", rows=options.users * ROWS_EACH, users=options.users)
        line = Line(dsn, valkey)
        line.install()
        with line:
            line.wait_until_ready()
            line.wait_until_caught_up()
            for _ in range(options.rounds):
                drift(dsn)
                before, begun = spent(server, line), time.perf_counter()
                line.run("verify", "--repair", *asked)
                seconds = time.perf_counter() - begun
                parts = {name: (now - before[name]) / options.users * 1e6 for name, now in spent(server, line).items()}
                each = ", ".join(f"{name} {us:.0f}" for name, us in parts.items())
                ground.say(f"{grouped(options.users / seconds)} users a second; µs of a processor a user: {each}")


def spent(server: Postgres, line: Line) -> Mapping[str, float]:
    """Return the processor seconds of each part so far."""
    mine = os.times()
    return {
        "verify": mine.children_user + mine.children_system,
        "daemon": line.processor_seconds(),
        "PostgreSQL": server_seconds(server.pid),
    }


def drift(dsn: str) -> None:
    """Have everyone's stored total be wrong."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE creditsd.balances SET credits = credits + 1")
        connection.execute("VACUUM ANALYZE creditsd.balances")


if __name__ == "__main__":
    main()
