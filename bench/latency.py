"""How late a total arrives: from commit returned to visible to a Redis subscriber, idle and at steady rates."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import psycopg
import redis

from bench.contenders import CREDITSD, HANDWRITTEN, ROWS, Contender, contenders
from bench.figure import figure, percentile
from bench.ground import Ground, Pace, rotated
from bench.heard import Heard
from bench.sheet import Sheet
from tests.servers import Valkey

RATES = (0, 100, 1_000, 5_000)  # changes a second; 0: one after the other, with pauses
PAUSE_SECONDS = (0.02, 0.05)
PATIENCE_SECONDS = 3.0
KEEPS_UP_MS = 1_000
GROWS_MS_PER_S = 100  # a queue that grows by a tenth of the time

_amounts = itertools.count(10_000_000, 1_000_000)


class Clock:
    """One writer and one subscriber: changes a row, then waits for that total."""

    def __init__(self, dsn: str, valkey: Valkey, rows: int = ROWS) -> None:
        self._rows = rows
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
            (amount, random.randint(1, self._rows)),
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


def idle(dsn: str, valkey: Valkey, seconds: float, *, rows: int = ROWS) -> dict[str, Any]:
    """Measure one change after the other for about so long."""
    clock = Clock(dsn, valkey, rows)
    clock.block(10)  # prepared statements, caches, connections
    found = clock.block(max(20, int(seconds / 0.038)))
    clock.close()
    return summary(found, sent=len(found), rate=None)


def steady(dsn: str, valkey: Valkey, rate: int, seconds: float, *, rows: int = ROWS) -> dict[str, Any]:
    """Measure at a steady rate; what has not come after a while of silence counts as late without end."""
    count, first = min(rows, int(rate * seconds)), next(_amounts)
    command = [sys.executable, "-m", "bench.pace", dsn, *map(str, (rate, count, first, rows))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer, Heard(valkey) as heard:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        begun = time.perf_counter()
        writer.stdin.write(b"\n")
        writer.stdin.flush()
        committed = orjson.loads(writer.stdout.readline())
        ended = time.perf_counter()
        while heard.count() < count and heard.silent_for() < 0.5 and time.perf_counter() < ended + PATIENCE_SECONDS:
            time.sleep(0.02)
    arrived = heard.moments()
    late = [(arrived[first + n] - moment) * 1000 for n, moment in enumerate(committed) if first + n in arrived]
    quarter = len(late) // 4
    growth = percentile(late[-quarter:], 50) - percentile(late[:quarter], 50) if quarter else 0.0
    found = summary(late, sent=count, rate=count / (ended - begun))
    return {**found, "asked": rate, "grew_ms_per_s": round(growth / (ended - begun))}


def summary(milliseconds: Sequence[float], *, sent: int, rate: float | None) -> dict[str, Any]:
    """Reduce one block to what is worth keeping."""
    found = {f"p{p}": round(percentile(milliseconds, p), 3) if milliseconds else None for p in (50, 90, 99)}
    return {**found, "sent": sent, "arrived": len(milliseconds), "rate": rate and round(rate)}


def block(contender: Contender, rate: int, seconds: float) -> dict[str, Any]:
    """Measure one block of a contender that runs."""
    if rate == 0:
        return idle(contender.dsn, contender.valkey, seconds)
    return steady(contender.dsn, contender.valkey, rate, seconds)


def measure(ground: Ground, pace: Pace) -> dict[str, Any]:
    """Measure the hand-written daemon, which is the floor, and creditsd; both stay up, and take turns."""
    cells: dict[int, dict[str, list[Any]]] = {}
    with contenders(ground, ["handwritten"]) as both:
        for rate in RATES:
            cells[rate] = {contender.name: [] for contender in both}
            # A backlog that the last rate left behind goes with the process.
            for contender in both:
                contender.start()
            for turn in range(pace.rounds):
                for contender in rotated(both, turn):
                    cells[rate][contender.name].append(block(contender, rate, pace.seconds))
            for contender in both:
                contender.stop()
                contender.empty()
            ground.say(f"{described(rate)}: done")
    return {"cells": [{"rate": rate, "blocks": blocks} for rate, blocks in cells.items()]}


def described(rate: int) -> str:
    return f"{rate} changes/s" if rate else "idle"


def kept_up(blocks: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether all was written at the rate asked for, all came, and none late as from a queue that grows."""
    return all(
        each["arrived"] == each["sent"]
        and each["p99"] < KEEPS_UP_MS
        and each.get("grew_ms_per_s", 0) < GROWS_MS_PER_S
        and (each["rate"] or 0) >= 0.9 * each.get("asked", 0)
        for each in blocks
    )


def sheets(found: Mapping[str, Any]) -> list[Sheet]:
    rows = []
    for cell in found["cells"]:
        blocks = cell["blocks"]
        floor = blocks.get(HANDWRITTEN)
        for name, measured in blocks.items():
            rows.append([described(cell["rate"]) if name == CREDITSD else "", *row(name, measured, floor)])
    head = ["changes", "", "p50 ms", "p99 ms", "p50 / hand-written", "p99 / hand-written", ""]
    title = "from a commit to a Redis subscriber: median of the rounds (lowest-highest)"
    return [Sheet(title, head, rows)]


def row(name: str, blocks: Sequence[Mapping[str, Any]], floor: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Write one contender's blocks; no ratio to a floor that did not keep up itself."""
    note = "" if kept_up(blocks) else _trouble(blocks)
    if any(each["p50"] is None for each in blocks):
        return [name, "", "", "", "", note]
    figures = {p: figure([each[p] for each in blocks]) for p in ("p50", "p99")}
    ratios = ["", ""]
    if floor is not None and floor is not blocks and kept_up(floor):
        ratios = [figures[p].ratio_to(figure([each[p] for each in floor])).as_ratio() for p in ("p50", "p99")]
    return [name, *(each.as_ratio() for each in figures.values()), *ratios, note]


def _trouble(blocks: Sequence[Mapping[str, Any]]) -> str:
    """Say who was too slow: the writers, behind its trigger, or what follows them."""
    written = [each["rate"] for each in blocks if each["rate"] and each["rate"] < 0.9 * each.get("asked", 0)]
    return f"writers reach {min(written)}/s" if written else "does not keep up"
