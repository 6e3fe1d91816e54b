"""How late a total arrives: from commit returned to visible to a Redis subscriber, otherwise idle."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import orjson
import psycopg
import redis
from rich.console import Console
from rich.table import Table

from bench.figures import percentile
from bench.floor import TRIGGER
from bench.line import Line
from bench.load import fill
from tests.servers import Postgres, Valkey

ROWS = 100_000
PAUSE_SECONDS = (0.02, 0.05)
FLOOR, CREDITSD = "floor", "creditsd"


class Clock:
    """One writer and one subscriber: changes a row, then waits for that total."""

    def __init__(self, dsn: str, valkey: Valkey) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._client = redis.Redis(host=valkey.host, port=valkey.port)
        self._totals = self._client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._totals.psubscribe("credits:*")

    def close(self) -> None:
        self._totals.close()
        self._client.close()
        self._connection.close()

    def change(self) -> float:
        """Change one random row and return the milliseconds from its commit to its total."""
        amount = random.randint(1_001, 1_000_000_000)
        self._connection.execute(
            "UPDATE public.user_credits SET credits = %b WHERE id = %b",
            (amount, random.randint(1, ROWS)),
            prepare=True,
        )
        committed = time.perf_counter()
        while time.perf_counter() < committed + 10:
            message = self._totals.get_message(timeout=1)
            arrived = time.perf_counter()
            if message is not None and orjson.loads(message["data"])["credits"] == amount:
                return (arrived - committed) * 1000
        raise RuntimeError("the total did not arrive within 10 s")

    def block(self, changes: int) -> list[float]:
        """Change row after row with pauses that never fall into step with anything."""
        found = []
        for _ in range(changes):
            time.sleep(random.uniform(*PAUSE_SECONDS))
            found.append(self.change())
        return found


def measure(
    server: Postgres, valkey: Valkey, *, rounds: int, changes: int, with_creditsd: bool
) -> dict[str, list[list[float]]]:
    """Measure block by block in turn; both daemons stay up, each with a database and a Valkey of its own."""
    with ExitStack() as ends:
        clocks = {FLOOR: ends.enter_context(floor(server, ends.enter_context(Valkey())))}
        if with_creditsd:
            clocks[CREDITSD] = ends.enter_context(line(server, valkey))
        for clock in clocks.values():
            clock.block(20)  # prepared statements, caches, connections
        blocks: dict[str, list[list[float]]] = {name: [] for name in clocks}
        for _ in range(rounds):
            for name, clock in clocks.items():
                blocks[name].append(clock.block(changes))
        return blocks


@contextmanager
def floor(server: Postgres, valkey: Valkey) -> Iterator[Clock]:
    """Run the hand-made daemon."""
    dsn = fill(server, "floor", rows=ROWS, users=ROWS)
    server.psql(TRIGGER, dbname="floor")
    command = [sys.executable, "-m", "bench.floor", dsn, valkey.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        clock = Clock(dsn, valkey)
        yield clock
        clock.close()
    finally:
        process.terminate()
        process.wait()


@contextmanager
def line(server: Postgres, valkey: Valkey) -> Iterator[Clock]:
    """Run creditsd."""
    dsn = fill(server, "latency", rows=ROWS, users=ROWS)
    with_line = Line(dsn, valkey)
    with_line.install()
    with with_line:
        with_line.wait_until_ready()
        with_line.wait_until_caught_up()
        clock = Clock(dsn, valkey)
        yield clock
        clock.close()


def show(console: Console, blocks: Mapping[str, list[list[float]]]) -> None:
    """Print p50 and p99 over everything, and the span of the blocks' own p50."""
    table = Table("", "p50 ms", "p99 ms", "p50 of the blocks", "p50 / floor", "p99 / floor")
    table.title = "commit returned → visible to a Redis subscriber"
    summary = summarise(blocks)
    for name, figures in summary.items():
        spread = f"{figures['p50_lowest']:.2f}-{figures['p50_highest']:.2f}"
        ratios = (f"{figures[p] / summary[FLOOR][p]:.2f}" for p in ("p50", "p99"))
        table.add_row(name, f"{figures['p50']:.2f}", f"{figures['p99']:.2f}", spread, *ratios)
    console.print(table)


def summarise(blocks: Mapping[str, list[list[float]]]) -> dict[str, dict[str, Any]]:
    """Reduce the samples, in milliseconds, to what is worth keeping."""
    found = {}
    for name, samples in blocks.items():
        everything = [value for block in samples for value in block]
        middles = [percentile(block, 50) for block in samples]
        found[name] = {
            "p50": percentile(everything, 50),
            "p99": percentile(everything, 99),
            "p50_lowest": min(middles),
            "p50_highest": max(middles),
            "samples": len(everything),
        }
    return found
