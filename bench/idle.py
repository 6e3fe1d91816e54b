"""What the daemon needs while nothing happens: memory after a backfill and after a restart, processor, queries."""

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
SETTLED_SECONDS = 5
RESTARTS = 3

STATISTICS = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"

# Counted from another database, and without what the server does by itself.
CALLS = """
SELECT coalesce(sum(s.calls), 0)
FROM pg_stat_statements AS s
JOIN pg_database AS d ON d.oid = s.dbid
WHERE d.datname = 'idle'
"""


def measure(ground: Ground, pace: Pace) -> dict[str, Any]:
    """Let a daemon with a sink settle, then watch it do nothing for so long, so many times; then start it anew."""
    ground.server.psql(STATISTICS)
    line = Line(ground.filled("idle", rows=USERS, users=USERS), ground.valkey)
    line.install()
    rounds = []
    with line:
        line.wait_until_ready()
        line.wait_until_caught_up()
        time.sleep(SETTLED_SECONDS)  # what follows a backfill: purge, cursors
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
    restarted = [restarted_mib(line) for _ in range(RESTARTS)]
    ground.drop("idle")
    return {"users": USERS, "rounds": rounds, "restarted_mib": restarted}


def restarted_mib(line: Line) -> float:
    """Return the resident memory of a daemon that has found everyone recomputed, and told one total."""
    with line:
        line.wait_until_ready()
        line.wait_until_caught_up()
        time.sleep(SETTLED_SECONDS)
        return line.memory_mib("VmRSS")


def asked(server: Postgres) -> int:
    return int(server.psql(CALLS))


def sheets(found: Mapping[str, Any]) -> list[Sheet]:
    rows = [
        [name, figure([each[key] for each in found["rounds"]]).as_ratio()]
        for name, key in (
            ("resident memory after a backfill, MiB", "resident_mib"),
            ("of one processor, %", "processor_percent"),
            ("queries a minute", "queries_per_minute"),
        )
    ]
    if "restarted_mib" in found:
        rows.insert(1, ["resident memory after a restart, MiB", figure(found["restarted_mib"]).as_ratio()])
    return [Sheet(f"the daemon idle, one sink, {found['users']} users behind it", ["", "measured"], rows)]
