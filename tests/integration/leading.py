"""A daemon that leads beside a test, and a role that may do no more than it needs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Iterator

from psycopg.conninfo import make_conninfo

from creditsd.config.settings import Settings
from creditsd.daemon.app import Daemon
from creditsd.sinks import Sink
from tests.conftest import Database, eventually

_numbers = itertools.count(1)


@contextlib.asynccontextmanager
async def leading(settings: Settings, *extra: tuple[str, Sink]) -> AsyncIterator[Daemon]:
    """Run a daemon until the end of the block; it leads, and everyone has been recomputed."""
    daemon = Daemon(settings, extra=extra)
    running = asyncio.create_task(daemon.run())

    async def state() -> str:
        if running.done():
            running.result()
        return daemon.state

    try:
        await eventually(state, lambda found: found == "leading")
        yield daemon
    finally:
        daemon.stop()
        await running


@contextlib.contextmanager
def restricted(database: Database) -> Iterator[tuple[str, Database]]:
    """Make a role that may log in and nothing else; return its name, and the database as it sees it."""
    name = f"restricted_{os.getpid()}_{next(_numbers)}"
    database.run(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    try:
        yield name, Database(database.server, database.name, make_conninfo(database.dsn, user=name, password="secret"))
    finally:
        database.run(f"DROP OWNED BY {name} CASCADE")
        database.run(f"DROP ROLE {name}")
