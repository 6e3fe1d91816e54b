"""Thousands of open streams on one `creditsd serve`: how late a total arrives there, and what a stream costs.

The whole line runs: PostgreSQL, `creditsd run`, Valkey, `creditsd serve`, and the readers in a process of their own.
The floor is bench/bare.py in the place of `creditsd serve`, on the same line, in turns.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psycopg

from bench.figure import figure, grouped, percentile
from bench.ground import Ground, Pace, rotated
from bench.line import COMMAND, Line
from bench.sheet import Sheet
from tests.servers import Valkey, free_port

KEY = "the-key-of-the-bench-long-enough"
PAUSE_SECONDS = (0.01, 0.03)
IDLE_SECONDS = 15.0  # in which each stream has a heartbeat
FLOOR, CREDITSD = "aiohttp alone", "creditsd serve"
STREAMS = 5_000
ROWS = {
    "p50_ms": ("commit to the reader, one change after the other: p50 ms", 2),
    "p99_ms": ("p99 ms", 2),
    "everyone_seconds": ("everyone changed in one commit: seconds until the last reader has it", 2),
    "kib_per_stream": ("memory a stream, KiB", 1),
    "mib_open": ("memory with all open, MiB", 0),
    "idle_cpu_percent": ("processor while nothing changes, % of a core (the floor has no heartbeats)", 1),
    "cpu_us_per_message_together": ("processor a message, everyone changed at once, µs", 0),
    "open_seconds": ("seconds to open them all", 1),
}


class Process:
    """A server of streams, and what it costs."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port

    def memory_mib(self) -> float:
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the server of streams is gone")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Readers:
    """The other end of the streams."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self.seconds = float(self._answer(120)["seconds"])

    def told(self) -> list[tuple[int, float]]:
        """Return what has come since the last time."""
        self._in.write(b"told\n")
        self._in.flush()
        return [(int(amount), moment) for amount, moment in self._answer(30)]

    def until(self, amounts: Mapping[int, float], seconds: float = 30) -> list[float]:
        """Wait until every amount has come; return the milliseconds each took since its moment."""
        left, found = dict(amounts), []
        deadline = time.monotonic() + seconds
        while left:
            for amount, moment in self.told():
                if amount in left:
                    found.append((moment - left.pop(amount)) * 1000)
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(left)} of {len(amounts)} totals did not arrive")
            time.sleep(0.05)
        return found

    def _answer(self, seconds: float) -> Any:
        if not select.select([self._out], [], [], seconds)[0]:
            raise RuntimeError("the readers do not answer")
        line = self._out.readline()
        if not line:
            raise RuntimeError("the readers ended: a stream was refused or lost")
        return orjson.loads(line)


@dataclass(frozen=True, slots=True)
class Bench:
    """The line before the streams."""

    dsn: str
    valkey: Valkey
    users: list[str]

    def measure(self, contender: str, changes: int) -> dict[str, Any]:
        """Open a stream for every user, and measure."""
        make = bare if contender == FLOOR else gateway
        with make(self.valkey) as server:
            empty = server.memory_mib()
            with readers(server.port, self.users) as ends:
                memory = server.memory_mib()
                cpu = server.cpu_seconds()
                time.sleep(IDLE_SECONDS)
                idle = server.cpu_seconds() - cpu
                with psycopg.connect(self.dsn, autocommit=True) as connection:
                    self._change_some(connection, ends, 20)
                    late = self._change_some(connection, ends, changes)
                    cpu = server.cpu_seconds()
                    seconds = self._change_all(connection, ends)
                    everyone = server.cpu_seconds() - cpu
        streams = len(self.users)
        return {
            "milliseconds": late,
            "open_seconds": ends.seconds,
            "kib_per_stream": (memory - empty) * 1024 / streams,
            "mib_empty": empty,
            "mib_open": memory,
            "idle_cpu_percent": idle / IDLE_SECONDS * 100,
            "everyone_seconds": seconds,
            "cpu_us_per_message_together": everyone / streams * 1e6,
        }

    def _change_some(self, connection: psycopg.Connection[Any], ends: Readers, changes: int) -> list[float]:
        """Change one user after the other; return the milliseconds from each commit to its reader."""
        committed: dict[int, float] = {}
        for _ in range(changes):
            time.sleep(random.uniform(*PAUSE_SECONDS))
            amount = random.randint(1_000_000, 2_000_000_000)
            connection.execute(
                "UPDATE public.user_credits SET credits = %b WHERE id = %b",
                (amount, random.randint(1, len(self.users))),
                prepare=True,
            )
            committed[amount] = time.perf_counter()
        return ends.until(committed)

    def _change_all(self, connection: psycopg.Connection[Any], ends: Readers) -> float:
        """Change everyone in one commit; return the seconds until the last reader knows."""
        base = random.randint(1_000_000, 2_000_000_000)
        connection.execute("UPDATE public.user_credits SET credits = %s + id::integer", (base,))
        committed = time.perf_counter()
        return max(ends.until({base + n: committed for n in range(1, len(self.users) + 1)}, 120)) / 1000


def measure(ground: Ground, pace: Pace) -> dict[str, Any]:
    """Measure both in turns, each on the same line; `pace.seconds` of changes, one after the other."""
    streams = ground.sized(STREAMS, 500)
    ground.valkey.flush()
    dsn = ground.filled("streams", rows=streams, users=streams)
    line = Line(dsn, ground.valkey)
    line.install()
    with psycopg.connect(dsn) as connection:
        users = [str(row[0]) for row in connection.execute("SELECT user_id FROM public.user_credits ORDER BY id")]
    found: dict[str, list[dict[str, Any]]] = {FLOOR: [], CREDITSD: []}
    with line:
        line.wait_until_ready()
        line.wait_until_caught_up()
        bench = Bench(dsn, ground.valkey, users)
        for turn in range(pace.rounds):
            for contender in rotated(list(found), turn):
                found[contender].append(bench.measure(contender, max(50, round(pace.seconds * 50))))
                ground.say(f"{contender}: {streams} streams, round {turn + 1}")
    ground.drop("streams")
    return {"streams": streams, "contenders": found}


@contextlib.contextmanager
def gateway(valkey: Valkey) -> Iterator[Process]:
    """Run `creditsd serve`, without the limits that are meant for strangers."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("CREDITSD_")} | {
        "CREDITSD_SERVE__FEED": valkey.url,
        "CREDITSD_HTTP__LISTEN": f"127.0.0.1:{port}",
        "CREDITSD_HTTP__API_KEYS": KEY,
        "CREDITSD_HTTP__REQUESTS_PER_SECOND_PER_ADDRESS": "0",
        "CREDITSD_HTTP__REQUESTS_PER_SECOND_PER_CALLER": "0",
        "CREDITSD_HTTP__REQUESTS_PER_SECOND_PER_SERVER": "0",
        "CREDITSD_LOG__LEVEL": "warning",
    }
    with subprocess.Popen([COMMAND, "serve"], stdin=subprocess.DEVNULL, env=env) as process:
        try:
            _wait_until_ready(port)
            yield Process(process, port)
        finally:
            process.terminate()


@contextlib.contextmanager
def bare(valkey: Valkey) -> Iterator[Process]:
    """Run the floor."""
    port = free_port()
    command = [sys.executable, "-m", "bench.bare", str(port), valkey.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield Process(process, port)
        finally:
            process.terminate()


@contextlib.contextmanager
def readers(port: int, users: list[str]) -> Iterator[Readers]:
    """Open a stream for each user."""
    command = [sys.executable, "-m", "bench.listeners", str(port), KEY, str(len(users))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            process.stdin.write("".join(f"{user}\n" for user in users).encode())
            process.stdin.flush()
            yield Readers(process)
        finally:
            process.terminate()


def _wait_until_ready(port: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
            return
        time.sleep(0.02)
    raise RuntimeError("creditsd serve was not ready in time")


def sheets(found: Mapping[str, Any]) -> list[Sheet]:
    """Show the medians of the rounds, and the ratios taken round by round."""
    contenders = {name: [_reduced(block) for block in blocks] for name, blocks in found["contenders"].items()}
    rows = []
    for key, (name, digits) in ROWS.items():
        mine, floor = (figure([block[key] for block in contenders[each]]) for each in (CREDITSD, FLOOR))
        ratio = mine.ratio_to(floor).as_ratio() if min(floor.values) > 0 else ""
        rows.append([name, f"{floor.median:.{digits}f}", f"{mine.median:.{digits}f}", ratio])
    title = f"{grouped(found['streams'])} open streams on one process, fed by Valkey"
    return [Sheet(title, ["", FLOOR, CREDITSD, "ratio"], rows)]


def _reduced(block: Mapping[str, Any]) -> dict[str, float]:
    late = block["milliseconds"]
    figures = {key: float(value) for key, value in block.items() if key != "milliseconds"}
    return {"p50_ms": percentile(late, 50), "p99_ms": percentile(late, 99), **figures}
