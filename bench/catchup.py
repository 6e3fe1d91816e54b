"""How fast everyone is published: the first backfill, and what piled up while the daemon was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
import redis
from rich.console import Console
from rich.table import Table

from bench.line import Line
from bench.load import fill
from tests.servers import Postgres, Valkey

CHUNK = 10_000

CHANGE = "UPDATE public.user_credits SET credits = 1 + (credits + 7) %% 1000 WHERE id BETWEEN %s AND %s"


def measure(server: Postgres, valkey: Valkey, *, rows: int, users: int) -> list[dict[str, Any]]:
    """Backfill, stop, change every row, start again. Memory in MiB, sampled as it goes."""
    dsn = fill(server, "catchup", rows=rows, users=users)
    line = Line(dsn, valkey)
    line.install()
    valkey.flush()
    with redis.Redis(host=valkey.host, port=valkey.port) as client:
        backfill = timed(line, lambda: client.dbsize() >= users and right(server, client))
        change_everything(server, rows)
        catchup = timed(line, lambda: probe_is_right(server, client) and right(server, client))
    return [
        {"stage": "backfill", "changes": rows, "users": users, **backfill},
        {"stage": "catch-up", "changes": rows, "users": users, **catchup},
    ]


def timed(line: Line, done: Callable[[], bool]) -> dict[str, Any]:
    """Run the daemon until everything is right, and note its memory every quarter of a second."""
    memory: list[float] = []
    begun = time.perf_counter()
    next_sample = begun
    with line:
        while True:
            asked = time.perf_counter()
            if done():
                break
            if asked >= next_sample:
                memory.append(round(line.memory_mib("VmRSS"), 1))
                next_sample = asked + 0.25
            if asked - begun > 600:
                raise RuntimeError(f"not caught up after 600 s:\n{line.log()}")
            time.sleep(0.02)
        # What looks everything over takes a while itself and is not counted.
        return {"seconds": asked - begun, "peak_mib": round(line.memory_mib(), 1), "memory_mib": memory}


def change_everything(server: Postgres, rows: int) -> None:
    """Change each row once, so many in a transaction, and last of all one row that tells the end."""
    with server.connect("catchup") as connection:
        for start in range(1, rows + 1, CHUNK):
            connection.execute(CHANGE, (start, start + CHUNK - 1))
        connection.execute("UPDATE public.user_credits SET credits = credits + 1000000 WHERE id = 1")


def probe_is_right(server: Postgres, client: redis.Redis) -> bool:
    """Tell whether the row changed last has arrived."""
    with server.connect("catchup") as connection:
        query = """
            SELECT user_id, sum(credits)::bigint
            FROM public.user_credits
            WHERE user_id = (SELECT user_id FROM public.user_credits WHERE id = 1)
            GROUP BY user_id
        """
        row = connection.execute(query).fetchone()
    assert row is not None
    document = client.get(f"credits:{row[0]}")
    return isinstance(document, bytes) and orjson.loads(document)["credits"] == row[1]


def right(server: Postgres, client: redis.Redis) -> bool:
    """Compare every total in Valkey with the truth."""
    query = "SELECT 'credits:' || user_id, sum(credits)::bigint FROM public.user_credits GROUP BY user_id"
    with server.connect("catchup") as connection:
        truth = {str(name): total for name, total in connection.execute(query)}
    names = list(truth)
    for start in range(0, len(names), CHUNK):
        some = names[start : start + CHUNK]
        for name, document in zip(some, client.mget(some), strict=True):
            if document is None or orjson.loads(document)["credits"] != truth[name]:
                return False
    return True


def show(console: Console, stages: list[dict[str, Any]]) -> None:
    """Print how long, how fast, and how much memory."""
    table = Table("", "rows", "users", "seconds", "users/s", "rows/s", "peak RSS MiB", "RSS half way, at the end")
    table.title = "everyone, until every total in Valkey equals the truth"
    for stage in stages:
        memory = stage["memory_mib"] or [stage["peak_mib"]]
        seconds = stage["seconds"]
        table.add_row(
            stage["stage"],
            f"{stage['changes']:,}".replace(",", " "),
            f"{stage['users']:,}".replace(",", " "),
            f"{seconds:.1f}",
            f"{stage['users'] / seconds:,.0f}".replace(",", " "),
            f"{stage['changes'] / seconds:,.0f}".replace(",", " "),
            f"{stage['peak_mib']:.0f}",
            f"{memory[len(memory) // 2]:.0f}, {memory[-1]:.0f}",
        )
    console.print(table)
