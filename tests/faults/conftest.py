"""A line to break: a database with creditsd installed, a Valkey, and the daemon between them as a process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.command import Running, environment, install, running
from tests.conftest import PATIENCE_SECONDS, SERVERS, Database, Servers, fresh_database
from tests.faults.load import Load, fill
from tests.faults.truth import until_true
from tests.servers import REFERENCE_TABLE, Postgres, Valkey

USERS = 300


@dataclass(frozen=True, slots=True)
class Line:
    """Where everything is; `env` is what the daemon is started with."""

    dsn: str
    valkey: Valkey
    env: dict[str, str]
    directory: Path

    def with_env(self, **settings: str) -> Line:
        """The same line, with other settings for its daemons."""
        return replace(self, env=self.env | settings)

    def daemon(self) -> AbstractAsyncContextManager[Running]:
        """Run a daemon for as long as a block lasts."""
        return running(self.directory, env=self.env)

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[Running]:
        """Run a daemon that leads and has recomputed everyone."""
        async with self.daemon() as daemon:
            await daemon.until_ready()
            yield daemon

    def load(self, clients: int = 4, *, pause_seconds: float = 0.002) -> Load:
        """Write for as long as a block lasts."""
        return Load(self.dsn, USERS, clients, pause_seconds)

    async def until_true(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until everyone is told the truth."""
        await until_true(self.dsn, self.valkey, seconds)

    @asynccontextmanager
    async def holding(self, query: str) -> AsyncIterator[None]:
        """Be in the middle of a transaction of the application's for as long as a block lasts."""
        async with (
            await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection,
            connection.transaction(),
        ):
            await connection.execute(query.encode())
            yield

    async def run(self, query: str) -> list[tuple[object, ...]]:
        """Run a query and return its rows."""
        return await asyncio.to_thread(self._run, query)

    def _run(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description is not None else []


def line_of(dsn: str, valkey: Valkey, directory: Path) -> Line:
    """A line whose daemons read one database and publish to one Valkey."""
    return Line(dsn, valkey, environment(CREDITSD_DSN=dsn, CREDITSD_SINKS=valkey.url), directory)


def prepare(dsn: str) -> None:
    """Make the reference table and some users, and install creditsd beside them."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(REFERENCE_TABLE.encode())
    fill(dsn, USERS)
    install(dsn)


@pytest.fixture(scope="session")
def prepared_template(servers: Servers) -> Iterator[str]:
    """A database in which all that has been done, to be copied."""
    server, name = servers.get(SERVERS[0]), f"faults_{os.getpid()}"
    prepare(server.create_database(name))
    yield name
    server.drop_database(name)


@pytest.fixture
def prepared(servers: Servers, prepared_template: str) -> Iterator[Database]:
    """A database with some users and creditsd installed."""
    with fresh_database(servers.get(SERVERS[0]), prepared_template) as copy:
        yield copy


@pytest.fixture
def line(prepared: Database, valkey: Valkey, tmp_path: Path) -> Line:
    """A line on the servers of the session."""
    return line_of(prepared.dsn, valkey, tmp_path)


@pytest.fixture
def own_line(own_postgres: Callable[..., Postgres], valkey: Valkey, tmp_path: Path) -> tuple[Postgres, Line]:
    """A line on a PostgreSQL of its own, which may be killed. Nothing is flushed: a killed process loses no page."""
    server = own_postgres()
    prepare(server.dsn())
    return server, line_of(server.dsn(), valkey, tmp_path)
