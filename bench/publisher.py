"""The publisher's rate into Valkey, against a bare pipelined loop of the same commands."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis.asyncio as redis
import uvloop

import creditsd.sinks.redis
from bench.figure import figure
from bench.ground import Ground, Pace, rotated
from bench.line import Line
from bench.sheet import Sheet
from bench.totals import published, rate
from bench.webhooks import total
from creditsd.config.settings import SinkSettings
from creditsd.sinks import make
from tests.servers import Valkey

USERS = 100_000
PER_CALL = 128  # as the sink does
BATCH = creditsd.sinks.redis.MAX_BATCH

LOOP, SINK, LINE = "bare loop", "the sink", "the line"
CONTENDERS = {
    LOOP: "the same commands, documents made before, one pipeline a batch",
    SINK: "each total encoded, the answers judged",
    LINE: "creditsd run: read from PostgreSQL, too",
}

SCRIPT = Path(creditsd.sinks.redis.__file__).with_suffix(".lua").read_text(encoding="utf-8")


def measure(ground: Ground, pace: Pace) -> dict[str, Any]:
    """Publish everyone, the contenders taking turns."""
    users = ground.sized(USERS, 10_000)
    line = Line(ground.filled("publisher", rows=users, users=users), ground.valkey)
    line.install()
    with line:
        line.wait_until_ready()
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for turn in range(pace.rounds):
        for name in rotated(list(CONTENDERS), turn):
            ground.valkey.flush()
            match name:
                case "bare loop":
                    found[name].append(uvloop.run(bare(ground.valkey, users)))
                case "the sink":
                    found[name].append(uvloop.run(through_the_sink(ground.valkey, users)))
                case _:
                    found[name].append(through_the_line(ground, line, users))
    ground.drop("publisher")
    return {"users": users, "totals_per_second": found}


async def bare(valkey: Valkey, users: int) -> float:
    """Send what the sink would send, and do nothing else."""
    sha = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
    made = [(f"credits:{each.user_id}", each.json()) for each in map(total, range(users))]
    client = redis.Redis.from_url(valkey.url)
    await client.script_load(SCRIPT)
    begun = time.perf_counter()
    for start in range(0, users, BATCH):
        pipeline = client.pipeline(transaction=False)
        for at in range(start, min(start + BATCH, users), PER_CALL):
            some = made[at : min(at + PER_CALL, start + BATCH)]
            keys, documents = [key for key, _ in some], [document for _, document in some]
            pipeline.execute_command("EVALSHA", sha, len(keys), *keys, 0, 0, *documents)
        await pipeline.execute()
    seconds = time.perf_counter() - begun
    await client.aclose()
    return users / seconds


async def through_the_sink(valkey: Valkey, users: int) -> float:
    """Deliver so many totals by the sink itself."""
    sink = make(SinkSettings.model_validate({"name": "cache", "url": valkey.url}))
    totals = [total(number) for number in range(users)]
    await sink.open()
    begun = time.perf_counter()
    for start in range(0, users, sink.max_batch):
        assert not await sink.deliver(totals[start : start + sink.max_batch])
    seconds = time.perf_counter() - begun
    await sink.close()
    return users / seconds


def through_the_line(ground: Ground, line: Line, users: int) -> float:
    """Have the daemon tell everyone again: nobody is recomputed, everyone is read and published."""
    ground.server.psql("UPDATE creditsd.sinks SET cursor = 0", dbname="publisher")
    before = published(ground.valkey)
    with line:
        return rate(ground.valkey, before, users, 120)


def sheets(found: Mapping[str, Any]) -> list[Sheet]:
    rates = found["totals_per_second"]
    floor = figure(rates[LOOP])
    rows = [
        [name, CONTENDERS[name], str(each := figure(values)), each.ratio_to(floor).as_ratio()]
        for name, values in rates.items()
    ]
    return [Sheet(f"totals per second into Valkey, {found['users']} users", ["", "", "totals/s", "ratio"], rows)]
