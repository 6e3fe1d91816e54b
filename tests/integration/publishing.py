"""Publishers that run as tasks of a test, and what is stored of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from psycopg.sql import SQL, Identifier

from creditsd.config.settings import Settings
from creditsd.delivery.publisher import Publisher
from creditsd.delivery.timings import BOUNDS, TIMINGS, Bounds, Timings
from creditsd.domain.total import Total
from creditsd.postgres.connections import pool
from creditsd.sinks import Sink
from tests.conftest import Database, eventually
from tests.integration.line import USER, Line, MemorySink

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"

QUICK = replace(
    TIMINGS,
    first_pause_seconds=0.01,
    longest_pause_seconds=0.05,
    retry_delays_seconds=(0.02,) * 500,
    retry_soon_seconds=0.0,
)
"""Pauses of a test; a newer total of a refused user waits for nothing."""

Publishing = Callable[..., AbstractAsyncContextManager[Publisher]]


@asynccontextmanager
async def publishers(settings: Settings, patience_seconds: float = 30.0) -> AsyncIterator[Publishing]:
    """Run publishers on one pool, each as a task until the end of its block, which it ends and closes in order."""
    async with pool(settings.dsn, purpose="publisher", max_size=4, patience_seconds=patience_seconds) as connections:

        @asynccontextmanager
        async def run(
            sink: Sink,
            name: str = "memory",
            newest: int | None = 0,
            *,
            every: bool = False,
            timings: Timings = QUICK,
            bounds: Bounds = BOUNDS,
            killed: bool = False,
        ) -> AsyncIterator[Publisher]:
            publisher = Publisher(name, sink, connections, every=every, timings=timings, bounds=bounds)
            if newest is not None:
                publisher.lead(newest)
            task = asyncio.create_task(publisher.run())
            try:
                yield publisher
            finally:
                if killed:
                    task.cancel()
                    await asyncio.wait([task])
                else:
                    await publisher.end()
                    async with asyncio.timeout(60):
                        await task
                    await publisher.close()

        yield run


class Reachable:
    """A sink that can be connected to, whatever becomes of the deliveries."""

    def __init__(self, sink: MemorySink) -> None:
        self._sink = sink

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    async def open(self) -> None:
        self._sink.opened += 1


@contextmanager
def away(database: Database) -> Iterator[None]:
    """End the publishers' connections, and let nobody connect to a database until the end of the block."""
    with database.server.connect() as server:
        allow = SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        server.execute(allow.format(Identifier(database.name), SQL("false")))
        try:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = %s AND application_name = 'creditsd publisher'",
                [database.name],
            )
            yield
        finally:
            server.execute(allow.format(Identifier(database.name), SQL("true")))


def made(version: int, name: str = USER) -> Total:
    """A total that stands in no table."""
    return Total.nothing(name)._replace(version=version, updated_at=datetime.now(UTC), credits=Decimal(version))


async def newest(line: Line) -> int:
    """The newest version there is."""
    ((version,),) = await (await line.connection.execute("SELECT max(version) FROM creditsd.balances")).fetchall()
    return int(version or 0)


def cursor(database: Database, name: str = "memory") -> Any:
    """What is saved of a sink: cursor, delivered, last error."""
    rows = database.run("SELECT cursor, delivered, last_error FROM creditsd.sinks WHERE name = %s", [name])
    return rows[0] if rows else None


def waiting(database: Database, which: str = "true") -> Callable[[], Awaitable[int]]:
    """Read how many deliveries wait, or are dead."""

    async def count() -> int:
        ((found,),) = database.run(f"SELECT count(*) FROM creditsd.deliveries WHERE {which}")
        return int(found)

    return count


async def current(publisher: Publisher) -> None:
    """Wait until everything has arrived."""

    async def behind() -> bool:
        return publisher.behind

    await eventually(behind, lambda found: not found)


async def sink_opened(sink: MemorySink) -> None:
    async def opened() -> int:
        return sink.opened

    await eventually(opened)
