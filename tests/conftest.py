"""Fixtures: real servers a session, a fresh database a test, and checks that nothing is left open."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib
import importlib.util
import itertools
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import hypothesis
import psycopg
import pytest
import structlog

from tests.pgbouncer import PgBouncer
from tests.servers import REFERENCE_TABLE, Postgres, Reachable, Valkey, versions
from tests.workshop import (
    Absent,
    Workshop,
    in_memory,
    kafka_program,
    nats_program,
    pgbouncer_program,
    redis_program,
)

T = TypeVar("T")

hypothesis.settings.register_profile("long", max_examples=5000)  # --hypothesis-profile=long

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts into the background deaf to Ctrl-C, and commands started from here would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

OWN_DSN = os.environ.get("CREDITSD_TEST_DSN", "")
"""A server of your own, in which every test creates a database and drops it after."""

CONTAINER_VERSIONS = (17, 16, 14)
"""Versions that come from Docker images where an engine answers; the others are installed as packages."""

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take what shows how good the tests are."""
    finds = "look late and seldom, which fails where a test catches a state that lasts only a moment"
    parser.addoption("--late-looks", action="store_true", help=finds)


def pytest_configure(config: pytest.Config) -> None:
    """Keep what the servers store in memory, where there is room: no test needs a disk. Log tracebacks plainly."""
    Looks.late = config.getoption("late_looks")
    Workshop.within = in_memory()
    *processors, _ = structlog.get_config()["processors"]
    # Where nothing is configured, structlog has rich draw each traceback with all its variables, which takes a second.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*processors, plain])


PATIENCE_SECONDS = 60.0
"""How long a test waits for what must come, on a machine that does much else; it bounds nothing that is promised."""


class Looks:
    """When `settled` looks."""

    late = False
    """Late and seldom, as on a machine that is slow to let it look."""


async def settled(
    read: Callable[[], Awaitable[T]], holds: Callable[[T], object] = bool, seconds: float = PATIENCE_SECONDS
) -> T:
    """Read a datum until it is as wanted, and return the last one read: as wanted, or what it was after `seconds`.

    The only place in the tests that polls: the seldomer, the longer it waits already, for a look may be a request to a
    daemon that is starting on the same processor. Use it for what nobody announces, such as a row in a table or a
    key in Valkey; what announces itself (an event, a message, a line of output) is awaited instead.
    """
    began = time.monotonic()
    if Looks.late:
        await asyncio.sleep(random.uniform(0.0, 1.0))  # what lasts only a moment is over by then
    while True:
        datum = await read()
        waited = time.monotonic() - began
        if holds(datum) or waited > seconds:
            return datum
        soon_seconds = min(max(0.005, waited / 10), 0.05)
        await asyncio.sleep(random.uniform(0.3, 1.2) if Looks.late else soon_seconds)


async def eventually(
    read: Callable[[], Awaitable[T]], holds: Callable[[T], object] = bool, seconds: float = PATIENCE_SECONDS
) -> T:
    """Read a datum until it is as wanted, and return it; after `seconds` fail with the last one read."""
    datum = await settled(read, holds, seconds)
    if not holds(datum):
        pytest.fail(f"not as wanted within {seconds} s; last read: {datum!r}")
    return datum


@dataclass(frozen=True, slots=True)
class Database:
    """A database of one test."""

    server: Reachable
    name: str
    dsn: str

    def run(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query, committed, in a session that nobody else has, and return its rows if it has any."""
        with self.server.sessions.lent(self.dsn) as connection:
            cursor = connection.execute(query.encode(), params or None)
            found = cursor.fetchall() if cursor.description is not None else []
        if "ALTER DATABASE" in query or "ALTER ROLE" in query:
            self.server.sessions.close(self.name)  # it may have set what later sessions begin with
        return found

    @contextlib.asynccontextmanager
    async def connect(self, *, autocommit: bool = True) -> AsyncIterator[psycopg.AsyncConnection[tuple[Any, ...]]]:
        """Open a connection that is closed at the end of the block, without a commit."""
        connection = await psycopg.AsyncConnection.connect(self.dsn, autocommit=autocommit)
        try:
            yield connection
        finally:
            await connection.close()

    def psql(self, script: str) -> str:
        """Run a script with psql."""
        return self.server.psql(script, dbname=self.name)

    def pg_dump(self, *args: str) -> str:
        """Dump this database as SQL."""
        return self.server.pg_dump(*args, dbname=self.name)


def _docker_answers() -> bool:
    """Ask the local Docker engine for a sign of life, for half a second at most."""
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(0.5)
    try:
        link.connect(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
        connection = http.client.HTTPConnection("localhost")
        connection.sock = link
        connection.request("GET", "/_ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()


def _available() -> list[str]:
    if OWN_DSN:
        return ["own"]
    installed = [f"pg{version}" for version in versions()]
    if importlib.util.find_spec("testcontainers") is not None and _docker_answers():
        installed += [f"pg{version}" for version in CONTAINER_VERSIONS if version not in versions()]
    return installed


SERVERS = _available()


class Servers:
    """The PostgreSQL servers of a session, each started when first asked for."""

    def __init__(self) -> None:
        self._servers: dict[str, Reachable] = {}
        self._ends = contextlib.ExitStack()

    def get(self, name: str) -> Reachable:
        """Start a server, or return the running one."""
        if name not in self._servers:
            self._servers[name] = self._start(name)
        return self._servers[name]

    def close(self) -> None:
        """Stop them all."""
        for server in self._servers.values():
            server.sessions.close()
        self._ends.close()

    def _start(self, name: str) -> Reachable:
        if name == "own":
            return Reachable(OWN_DSN, next(iter(versions().values()), None))
        version = int(name.removeprefix("pg"))
        if version in versions():
            return self._ends.enter_context(Postgres(versions()[version]))
        containers = importlib.import_module("testcontainers.postgres")
        container = containers.PostgresContainer(f"postgres:{version}-alpine", driver=None).with_command(
            "postgres -c fsync=off -c max_connections=200 -c max_prepared_transactions=10"
        )
        self._ends.enter_context(container)
        return Reachable(container.get_connection_url(), next(iter(versions().values()), None))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    with _skipping():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    with _skipping():
        return (yield)


@contextlib.contextmanager
def _skipping() -> Iterator[None]:
    """Skip what needs a server that is not installed here."""
    try:
        yield
    except Absent as absent:
        pytest.skip(str(absent))


def pytest_report_header() -> Iterator[str]:
    """Say beforehand what will be skipped."""
    for server in (redis_program, nats_program, kafka_program, pgbouncer_program):
        try:
            server()
        except Absent as absent:
            yield f"tests are skipped: {absent}"


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    running = Servers()
    yield running
    running.close()


@pytest.fixture(scope="session", params=SERVERS)
def postgres_server(request: pytest.FixtureRequest, servers: Servers) -> Reachable:
    """A server of each available version in turn: a test that uses it runs once a version."""
    return servers.get(request.param)


@pytest.fixture
def own_postgres() -> Iterator[Callable[..., Postgres]]:
    """Make servers of the test's own, newest version, to restart, kill or replicate. Settings as keywords."""
    with contextlib.ExitStack() as ends:
        yield lambda movable_clock=False, **settings: ends.enter_context(
            Postgres(settings=settings, movable_clock=movable_clock)
        )


@contextlib.contextmanager
def fresh_database(server: Reachable, template: str = "template1") -> Iterator[Database]:
    """Make a database for as long as the block lasts; fail where somebody is still connected at its end."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    try:
        yield Database(server, name, server.create_database(name, template))
        fail_if_connected(server, name)
    finally:
        server.drop_database(name)


def fail_if_connected(server: Reachable, name: str) -> None:
    """A backend ends a moment after its client closed, so it may take up to two seconds."""
    deadline = time.monotonic() + 2
    while left := server.connections(name):
        if time.monotonic() > deadline:
            pytest.fail("connections left open: " + "; ".join(left))
        time.sleep(0.01)  # between two looks: nothing tells of a backend's end


@pytest.fixture
def database(postgres_server: Reachable) -> Iterator[Database]:
    """An empty database, once a version of PostgreSQL."""
    with fresh_database(postgres_server) as fresh:
        yield fresh


@pytest.fixture
def database18(servers: Servers) -> Iterator[Database]:
    """An empty database on the newest version only, for what does not depend on the version."""
    with fresh_database(servers.get(SERVERS[0])) as fresh:
        yield fresh


@pytest.fixture
def reference_table(database: Database) -> Database:
    """A database with an empty `public.user_credits` as the contract describes it, once a version."""
    database.run(REFERENCE_TABLE)
    return database


@pytest.fixture
def reference_table18(database18: Database) -> Database:
    """The same on the newest version only."""
    database18.run(REFERENCE_TABLE)
    return database18


@pytest.fixture
def pgbouncer() -> Iterator[Callable[..., PgBouncer]]:
    """Make poolers of the test's own in front of a database, in transaction mode unless told otherwise."""
    with contextlib.ExitStack() as ends:
        yield lambda database, **settings: ends.enter_context(PgBouncer(database.dsn, **settings))


@pytest.fixture(scope="session")
def session_valkey() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture
def valkey(session_valkey: Valkey) -> Valkey:
    """An empty Valkey."""
    session_valkey.flush()
    return session_valkey


@pytest.fixture
def own_valkey() -> Iterator[Callable[..., Valkey]]:
    """Make Valkeys of the test's own, to stop, restart or kill. Options of valkey-server as arguments."""
    with contextlib.ExitStack() as ends:
        yield lambda *options: ends.enter_context(Valkey(*options))


@pytest.fixture(autouse=True)
def _nothing_left_running(request: pytest.FixtureRequest) -> None:
    """Fail a test that leaves tasks behind. Autouse comes first, so it looks after the others have closed."""
    if asyncio.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_no_tasks_left")


@pytest.fixture
async def _no_tasks_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    # A task that was cancelled, or whose last await has come true, gets the turns of the loop it needs.
    for _ in range(10):
        if left:
            await asyncio.sleep(0)
    left = {task for task in left if not task.done()}
    for task in left:
        task.cancel()
    if left:
        pytest.fail(f"tasks left running: {left}")
