"""What the daemon needs while nothing happens: memory, processor, queries."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bench.figure import figure
from bench.ground import Ground, Pace
from bench.line import Line
from bench.sheet import Sheet
from tests.servers import Postgres

USERS = 100_000

STATISTICS = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"

# Counted from another database, and without what the server does by itself.
CALLS = """
SELECT coalesce(sum(s.calls), 0)
FROM pg_stat_statements AS s
JOIN pg_database AS d ON d.oid = s.dbid
WHERE d.datname = 'idle'
"""


def measure(ground: Ground, pace: Pace) -> dict[str, Any]:
    """Let a daemon with a sink settle, then watch it do nothing for so long, so many times."""
    ground.server.psql(STATISTICS)
    line = Line(ground.filled("idle", rows=USERS, users=USERS), ground.valkey)
    line.install()
    rounds = []
    with line:
        line.wait_until_ready()
        line.wait_until_caught_up()
        time.sleep(5)  # what follows a backfill: purge, cursors
        for _ in range(pace.rounds):
            calls, used, begun = asked(ground.server), line.processor_seconds(), time.perf_counter()
            time.sleep(pace.seconds)
            seconds = time.perf_counter() - begun
            rounds.append(
                {
                    "queries_per_minute": (asked(ground.server) - calls) * 60 / seconds,
                    "processor_percent": (line.processor_seconds() - used) * 100 / seconds,
                    "resident_mib": line.memory_mib("VmRSS"),
                    "seconds": seconds,
                }
            )
    ground.drop("idle")
    return {"users": USERS, "rounds": rounds}


def asked(server: Postgres) -> int:
    return int(server.psql(CALLS))


def sheets(found: Mapping[str, Any]) -> list[Sheet]:
    rows = [
        [name, figure([each[key] for each in found["rounds"]]).as_ratio()]
        for name, key in (
            ("resident memory, MiB", "resident_mib"),
            ("of one processor, %", "processor_percent"),
            ("queries a minute", "queries_per_minute"),
        )
    ]
    return [Sheet(f"the daemon idle, one sink, {found['users']} users behind it", ["", "measured"], rows)]
