"""Whether a sink that is dead, and one that hangs, delay a healthy one."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from bench.figure import figure
from bench.ground import Ground, Pace, rotated
from bench.latency import steady
from bench.line import Line
from bench.sheet import Sheet
from tests.servers import Valkey, free_port

ROWS = 100_000
RATE = 200

ALONE, BESIDE = "alone", "beside a dead and a hanging one"


def measure(ground: Ground, pace: Pace) -> dict[str, Any]:
    """Measure a line with one sink, and one with three, at the same rate in turns; both stay up."""
    blocks: dict[str, list[Any]] = {ALONE: [], BESIDE: []}
    with hanging() as port, Valkey() as alone, Valkey() as beside, contextlib.ExitStack() as ends:
        broken = [f"redis://127.0.0.1:{free_port()}/0", f"redis://127.0.0.1:{port}/0"]
        lines = {}
        for name, valkey, others in ((ALONE, alone, []), (BESIDE, beside, broken)):
            urls = dict(zip(("healthy", "dead", "hanging"), [valkey.url, *others], strict=False))
            sinks = orjson.dumps([{"name": name, "url": url} for name, url in urls.items()]).decode()
            dbname = f"isolation{len(urls)}"
            line = Line(ground.filled(dbname, rows=ROWS, users=ROWS), valkey, sinks=sinks)
            line.install()
            lines[name] = ends.enter_context(line)
            line.wait_until_ready()
            line.wait_until_caught_up()
        for turn in range(pace.rounds):
            for name in rotated(list(lines), turn):
                blocks[name].append(steady(lines[name].dsn, lines[name].valkey, RATE, pace.seconds))
    ground.drop("isolation1", "isolation3")
    return {"rate": RATE, "blocks": blocks}


@contextlib.contextmanager
def hanging() -> Iterator[int]:
    """Take connections, as far as the kernel does, and never say a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield int(server.getsockname()[1])


def sheets(found: Mapping[str, Any]) -> list[Sheet]:
    figures = {
        name: {p: figure([each[p] for each in blocks]) for p in ("p50", "p99")}
        for name, blocks in found["blocks"].items()
    }
    rows = [
        [name, each["p50"].as_ratio(), each["p99"].as_ratio(), each["p99"].ratio_to(figures[ALONE]["p99"]).as_ratio()]
        for name, each in figures.items()
    ]
    head = ["a healthy Valkey", "p50 ms", "p99 ms", "p99 / alone"]
    return [Sheet(f"commit to subscriber at {found['rate']} changes/s: median (lowest-highest)", head, rows)]
