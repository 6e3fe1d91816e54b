"""Everything a soak runs on: servers, proxies, receivers, daemons, the application, as the seed draws them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from tests.acceptance.command import creditsd, environment
from tests.brokers import Nats
from tests.faults.load import fill, user
from tests.faults.soak import crossings, tabs
from tests.faults.soak.alerts import Alerts, Annals
from tests.faults.soak.application import Application
from tests.faults.soak.cache import Cache
from tests.faults.soak.crew import Crew, Member
from tests.faults.soak.heard import Heard
from tests.faults.soak.ledger import Ledger
from tests.faults.soak.receiver import Receiver
from tests.faults.soak.stream import Stream
from tests.faults.soak.tabs import Tabs
from tests.pgbouncer import PgBouncer
from tests.proxy import Proxy
from tests.servers import REFERENCE_TABLE, Postgres, Valkey, versions
from tests.sinks.nats_harness import NatsServer

USERS = 100
TABS = 8
SMALL_BATCH = 30
"""In some worlds a batch takes fewer than there are users, so that passes, resyncs and backlogs have many pages."""

PARTITIONED = REFERENCE_TABLE.replace("bigserial PRIMARY KEY", "bigserial").replace(
    ");\n", ") PARTITION BY HASH (user_id);\n", 1
) + "".join(
    f"CREATE TABLE public.user_credits_{part} PARTITION OF public.user_credits "
    f"FOR VALUES WITH (MODULUS 3, REMAINDER {part});\n"
    for part in range(3)
)
UNIQUE = "ALTER TABLE public.user_credits ADD CONSTRAINT one_id UNIQUE (id, user_id);\n"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a world is like.

    Without `history`, which is the default, few changes go the short way, and nobody is told every step.
    """

    version: int
    partitioned: bool
    pooled: bool
    polling: bool
    daemons: int
    warm: bool = False
    history: bool = True

    def __str__(self) -> str:
        words = [
            f"PostgreSQL {self.version}",
            "partitioned" if self.partitioned else "",
            "behind PgBouncer" if self.pooled else "",
            "polling" if self.polling else "",
            "kept warm" if self.warm else "",
            "" if self.history else "without history",
            f"{self.daemons} daemon{'s' if self.daemons > 1 else ''}",
        ]
        return ", ".join(filter(None, words))


def draw(seed: int) -> list[Shape]:
    """Return every shape of world there is, in an order drawn from the seed, with neighbours unlike each other."""
    newest, *_, oldest = [*versions(), *versions()]
    dice = random.Random(f"{seed}:worlds")
    shapes = [
        Shape(newest, False, False, False, 2, history=False),
        Shape(newest, True, False, False, 1),
        Shape(newest, False, True, False, 2),
        Shape(newest, False, False, True, 3),
        Shape(oldest, False, False, False, 2, warm=True),
        Shape(oldest, True, False, False, 1, history=False),
        Shape(oldest, True, False, True, 1),
        Shape(oldest, True, True, False, 2),
    ]
    dice.shuffle(shapes)
    return shapes


@dataclass(frozen=True, slots=True)
class World:
    """Where everything is. `gates` are the proxies by what is behind them."""

    shape: Shape
    server: Postgres
    cache: Cache
    stream: Stream
    receivers: Sequence[Receiver]
    tabs: Tabs
    gates: dict[str, Proxy]
    crew: Crew
    application: Application
    ledger: Ledger
    env: dict[str, str]

    @property
    def consumers(self) -> list[Heard]:
        """Everyone who keeps the newest total."""
        return [self.cache.keys, self.stream.heard, *(receiver.heard for receiver in self.receivers), self.tabs.heard]

    @asynccontextmanager
    async def connected(self, name: str = "stranger") -> AsyncIterator[psycopg.AsyncConnection[tuple[Any, ...]]]:
        """Connect past everything."""
        connection = await psycopg.AsyncConnection.connect(self.server.dsn(), autocommit=True, application_name=name)
        try:
            yield connection
        finally:
            await connection.close()

    async def run(self, query: str) -> list[tuple[Any, ...]]:
        """Run one query past everything, and return its rows."""
        async with self.connected() as connection:
            cursor = await connection.execute(query.encode())
            return await cursor.fetchall() if cursor.description is not None else []

    async def creditsd(self, *args: str) -> None:
        """Run a command, past the proxies of the database; it must say 0, and not take a minute."""
        try:
            done = await creditsd(*args, env=self.env)
        except TimeoutError:
            self.application.tally.failures.append(f"creditsd {' '.join(args)} took longer than a minute")
            return
        if done.code != 0:
            said = done.err or done.out
            self.application.tally.failures.append(f"creditsd {' '.join(args)} ended with {done.code}: {said}")

    async def catch_up(self) -> None:
        """Have the consumers that read read what there is."""
        await self.cache.look()
        await self.stream.catch_up()


@asynccontextmanager
async def opened(shape: Shape, seed: str, directory: Path) -> AsyncIterator[World]:
    """Start all of it, with the daemons leading or standing by, and end it."""
    settings = {"max_notify_queue_pages": "64"} if shape.version >= 17 else {}
    async with AsyncExitStack() as stack:
        server = stack.enter_context(Postgres(versions()[shape.version], settings))
        await asyncio.to_thread(_prepare, server, shape)
        direct = server.dsn()
        pooler = stack.enter_context(_pooler(direct)) if shape.pooled else None
        cache, stream, receivers = await _audience(stack)
        behind = {"cache": cache.server.port, "events": stream.server.port}
        behind |= {each.heard.name: each.port for each in receivers}
        gates = {name: await stack.enter_async_context(Proxy("127.0.0.1", port)) for name, port in behind.items()}
        env = _environment(shape, gates, receivers)
        crew = await _crew(stack, "abc"[: shape.daemons], server, pooler, env, logs=directory)
        gates |= {f"database of {member.name}": member.gate for member in crew.members}
        ledger = Ledger([user(number) for number in range(1, USERS + 1)])
        without = frozenset() if shape.polling else frozenset({"two phases"})
        without |= frozenset() if shape.version >= 15 else frozenset({"merge"})
        application = Application(pooler.dsn if pooler else direct, direct, ledger, seed, without=without)
        world = World(
            shape=shape,
            server=server,
            cache=cache,
            stream=stream,
            receivers=receivers,
            tabs=Tabs(crew, ledger.users[:TABS], Heard("tabs", only=frozenset(ledger.users[:TABS]))),
            gates=gates,
            crew=crew,
            application=application,
            ledger=ledger,
            env=env | {"CREDITSD_DSN": direct},
        )
        stack.push_async_callback(crew.end)
        await world.creditsd("install")
        for member in crew.members:
            await member.begin()
        await stack.enter_async_context(application.running())
        await stack.enter_async_context(world.tabs.reading())
        await stack.enter_async_context(crew.watched())
        yield world


async def _audience(stack: AsyncExitStack) -> tuple[Cache, Stream, list[Receiver]]:
    """Start whoever is told; Redis keeps what it has over its end, as NATS does."""
    valkey = stack.enter_context(Valkey("--appendonly", "yes"))
    nats = Nats()
    await asyncio.to_thread(nats.start)
    stack.callback(NatsServer.stop, nats)
    annals = Annals()
    receivers = [Receiver(Heard(name), Alerts(annals, every=name == "steps")) for name in ("hook", "steps")]
    for receiver in receivers:
        await receiver.come()
        stack.push_async_callback(receiver.go)
    cache = Cache(valkey, Heard("channel"))
    await stack.enter_async_context(cache.listening())
    return cache, Stream(nats, Heard("events")), receivers


def _prepare(server: Postgres, shape: Shape) -> None:
    server.psql((PARTITIONED if shape.partitioned else REFERENCE_TABLE) + UNIQUE)
    fill(server.dsn(), USERS)


def _pooler(dsn: str) -> PgBouncer:
    """A pooler that tries a server that was away again soon."""
    return PgBouncer(
        dsn, pool_size=10, server_login_retry=0.2, server_check_delay=0, ignore_startup_parameters="options"
    )


def _environment(shape: Shape, gates: dict[str, Proxy], receivers: Sequence[Receiver]) -> dict[str, str]:
    hook, steps = receivers
    every: dict[str, str] = {"mode": "every"} if shape.history else {}
    asked = {} if shape.history else {"events": ["credits.updated"]}
    sinks = [
        {"name": "cache", "url": f"redis://127.0.0.1:{gates['cache'].port}/0"},
        {
            "name": "events",
            "url": f"nats://127.0.0.1:{gates['events'].port}",
            "max_msgs_per_subject": 100_000,
        }
        | every,
        hook.sink(gates["hook"].port, **asked),
        steps.sink(gates["steps"].port, **asked, **every),
    ]
    return environment(
        CREDITSD_SINKS=json.dumps(sinks),
        CREDITSD_HISTORY__DAYS=str(int(shape.history)),
        CREDITSD_HTTP__API_KEYS=json.dumps([tabs.KEY]),
        CREDITSD_WAKEUP="poll" if shape.polling else "doorbell",
        CREDITSD_KEEP_WARM_SECONDS="0.06" if shape.warm else "0",
        CREDITSD_MAX_BATCH_USERS=str(SMALL_BATCH if shape.daemons == 2 else 2000),
        **crossings.SETTINGS,
    )


async def _crew(
    stack: AsyncExitStack, names: str, server: Postgres, pooler: PgBouncer | None, env: dict[str, str], *, logs: Path
) -> Crew:
    """Give each daemon a way of its own to the database; the pooler, where there is one, is not behind it."""
    members = []
    for name in names:
        gate = await stack.enter_async_context(Proxy("127.0.0.1", server.port))
        way = make_conninfo(server.dsn(), host=gate.host, port=gate.port)
        ways = {"CREDITSD_DSN": way}
        if pooler is not None:
            ways = {"CREDITSD_DSN": pooler.dsn, "CREDITSD_LISTEN_DSN": way}
        members.append(Member(name, gate, env | ways, logs))
    return Crew(members)
