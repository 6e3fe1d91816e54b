"""Whether it stays as quick while users grow in number: writers, latency and recompute at each size."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from bench.catchup import timed
from bench.figure import figure, grouped
from bench.ground import Ground, Pace, rotated
from bench.latency import idle
from bench.line import Line
from bench.load import Writers, flush
from bench.sheet import Sheet
from tests.servers import Valkey

SIZES = (10_000, 100_000, 1_000_000)
LARGEST = 5_000_000
CLIENTS = 16


def measure(ground: Ground, pace: Pace) -> list[dict[str, Any]]:
    """Recompute and publish everyone once at each size; then writers and latency, the sizes taking turns."""
    sizes = [ground.sized(size, size // 20) for size in (*SIZES, *((LARGEST,) if ground.large else ()))]
    with ExitStack() as ends:
        lines: dict[int, Line] = {}
        cells: dict[int, dict[str, Any]] = {}
        for size in sizes:
            valkey = ends.enter_context(Valkey())
            line = Line(ground.filled(f"grown{size}", rows=size, users=size), valkey)
            line.install()
            found = timed(line, lambda line=line: line.ready())  # type: ignore[misc]
            lines[size] = ends.enter_context(line)
            cells[size] = {"users": size, "recompute": found, "tps": [], "latency": []}
            ground.say(f"{grouped(size)} users recomputed in {found['seconds']:.1f} s, {found['peak_mib']:.0f} MiB")
        for line in lines.values():
            line.wait_until_ready()
        for turn in range(pace.rounds):
            for size in rotated(sizes, turn):
                line, dbname = lines[size], f"grown{size}"
                line.wait_until_caught_up()
                cells[size]["latency"].append(idle(line.dsn, line.valkey, pace.seconds, rows=size))
                flush(ground.server, "slow")
                cells[size]["tps"].append(Writers(CLIENTS, size).write(ground.server, dbname, pace.seconds))
                flush(ground.server, "ordinary")
                line.wait_until_caught_up()
    ground.drop(*(f"grown{size}" for size in sizes))
    return list(cells.values())


def sheets(found: list[Mapping[str, Any]]) -> list[Sheet]:
    rows = [
        [
            grouped(cell["users"]),
            str(figure(cell["tps"])),
            *(figure([each[p] for each in cell["latency"]]).as_ratio() for p in ("p50", "p99")),
            grouped(cell["users"] / cell["recompute"]["seconds"]),
            f"{cell['recompute']['peak_mib']:.0f}",
        ]
        for cell in found
    ]
    head = ["users", f"tps, {CLIENTS} clients, slow flush", "idle p50 ms", "idle p99 ms"]
    head += ["first recompute, users/s", "peak RSS MiB"]
    return [Sheet("the daemon running, by the number of users", head, rows)]
