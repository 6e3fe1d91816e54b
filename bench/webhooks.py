"""How many webhooks a second reach a local receiver over 64 connections, against what the HTTP client alone reaches."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aiohttp
import orjson
import uvloop

from bench.figure import figure
from bench.ground import Ground, Pace, rotated
from bench.line import Line
from bench.sheet import Sheet
from creditsd.config.settings import SinkSettings
from creditsd.domain.total import Total, encode
from creditsd.sinks import make
from tests.servers import free_port

CONNECTIONS = 64
USERS = 20_000
SECRET = "whsec_aW4gYSBiZW5jaCB0aGVyZSBpcyBub3RoaW5nIHRvIGhpZGU="

CLIENT, SINK, LINE = "aiohttp alone", "the sink", "the line"
CONTENDERS = {
    CLIENT: "one body, sent again and again",
    SINK: "each total encoded, signed, judged",
    LINE: "creditsd run: read from PostgreSQL, too",
}


def measure(ground: Ground, pace: Pace) -> dict[str, Any]:
    """Return the webhooks a second of each round, the contenders taking turns."""
    users = ground.sized(USERS, 3_000)
    with receiver() as port:
        url = f"http://127.0.0.1:{port}/hooks/credits"
        sink = {"name": "hook", "url": f"webhook+{url}", "secret": SECRET, "allow_cidrs": ["127.0.0.1"]}
        dsn = ground.filled("webhooks", rows=users, users=users)
        line = Line(dsn, ground.valkey, sinks=orjson.dumps([sink]).decode())
        line.install()
        published(line, port, users)  # the first time everyone has to be recomputed, too
        found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for turn in range(pace.rounds):
            for name in rotated(list(CONTENDERS), turn):
                match name:
                    case "aiohttp alone":
                        found[name].append(uvloop.run(alone(url, users)))
                    case "the sink":
                        found[name].append(uvloop.run(through_the_sink(sink, users)))
                    case _:
                        ground.server.psql("UPDATE creditsd.sinks SET cursor = 0", dbname="webhooks")
                        found[name].append(published(line, port, users))
    ground.drop("webhooks")
    return {"users": users, "webhooks_per_second": found}


@contextlib.contextmanager
def receiver() -> Iterator[int]:
    """Run the receiver in a process of its own; yields its port."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-m", "bench.receiver", str(port)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield port
        finally:
            process.terminate()


def told(port: int, method: str = "GET") -> dict[str, Any]:
    """Ask the receiver what has come; DELETE makes it forget."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(orjson.loads(answer.read()))


async def alone(url: str, requests: int) -> float:
    """POST the same bytes over and over with nothing but the client."""
    body, left = encode({"type": "credits.updated", "data": total(1).document()}), iter(range(requests))
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def one() -> None:
            for _ in left:
                async with session.post(url, data=body, headers=headers) as response:
                    await response.read()

        begun = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
        return requests / (time.perf_counter() - begun)


async def through_the_sink(settings: dict[str, Any], requests: int) -> float:
    """Deliver so many totals by the sink itself."""
    sink = make(SinkSettings.model_validate(settings | {"concurrency": CONNECTIONS}))
    totals = [total(number) for number in range(requests)]
    await sink.open()
    begun = time.perf_counter()
    for start in range(0, requests, sink.max_batch):
        assert not await sink.deliver(totals[start : start + sink.max_batch])
    seconds = time.perf_counter() - begun
    await sink.close()
    return requests / seconds


def published(line: Line, port: int, users: int) -> float:
    """Run the daemon until everyone's webhook has come; counted from the first to the last."""
    told(port, "DELETE")
    deadline = time.monotonic() + 120
    with line:
        while True:
            time.sleep(0.5)  # asking costs the receiver little, yet not nothing
            heard = told(port)
            if heard["requests"] >= users:
                return float(heard["requests"] / heard["seconds"])
            if time.monotonic() > deadline:
                raise RuntimeError(f"only {heard['requests']} of {users} webhooks came:\n{line.log()}")


def total(number: int) -> Total:
    """Make up somebody's total."""
    return Total(
        user_id=f"00000000-0000-0000-0000-{number:012d}",
        version=1_763_800_000_000_000 + number,
        updated_at=datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=UTC),
        credits=Decimal(number),
        membership_status="active",
        plan_type="subscription",
        can_buy=False,
        has_ever_had_subscription=True,
        subscription_id=f"sub_{number}",
        membership="Pro",
        expires_at=datetime(2026, 12, 22, tzinfo=UTC),
    )


def sheets(found: Mapping[str, Any]) -> list[Sheet]:
    rates = found["webhooks_per_second"]
    floor = figure(rates["aiohttp alone"])
    rows = [
        [name, CONTENDERS[name], str(each := figure(values)), each.ratio_to(floor).as_ratio()]
        for name, values in rates.items()
    ]
    return [Sheet(f"webhooks to a local receiver, {CONNECTIONS} connections", ["", "", "webhooks/s", "ratio"], rows)]
