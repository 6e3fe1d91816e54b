"""One installed database a version, emptied before each test that asks for it: to make one takes longer than a test."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from creditsd.config.settings import Settings
from tests.conftest import SERVERS, Database, Servers, fail_if_connected, fresh_database
from tests.integration.line import Line, configured, installed
from tests.integration.play import Session
from tests.integration.publishing import Publishing, publishers
from tests.integration.shapes import REFERENCE, Installed, Shapes
from tests.servers import REFERENCE_TABLE, Reachable

_numbers = itertools.count(1)

# All that an installation keeps but what it is: of a table that a later migration makes, too.
EMPTY = """
DO $$
DECLARE
    kept regclass;
BEGIN
    FOR kept IN
        SELECT c.oid FROM pg_class AS c
        WHERE c.relnamespace = 'creditsd'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND c.relname <> 'installation'
    LOOP
        EXECUTE format('DELETE FROM %s', kept);
    END LOOP;
END
$$;
"""


@pytest.fixture(scope="session")
def installed_database(postgres_server: Reachable) -> Iterator[Database]:
    name = f"installed_{os.getpid()}_{postgres_server.version}"
    database = Database(postgres_server, name, postgres_server.create_database(name))
    database.run(REFERENCE_TABLE)
    database.run("ALTER TABLE user_credits ADD note text")
    database.run("CREATE TABLE people (id uuid PRIMARY KEY); CREATE TABLE archive (credits integer)")
    with asyncio.Runner() as runner:
        runner.run(installed(database))
    yield database
    postgres_server.drop_database(name)


@pytest.fixture
def installation(installed_database: Database) -> Iterator[Database]:
    """The reference table with creditsd installed by default settings, all empty; do not alter its schema."""
    installed_database.run(
        "DELETE FROM public.user_credits; DELETE FROM archive; DELETE FROM people; "
        f"{EMPTY}"
        "ALTER SEQUENCE user_credits_id_seq RESTART"
    )
    yield installed_database
    fail_if_connected(installed_database.server, installed_database.name)


@pytest.fixture(scope="session")
def fraction_database(servers: Servers) -> Iterator[Database]:
    with fresh_database(servers.get(SERVERS[0])) as database:
        database.run(REFERENCE_TABLE)
        database.run("ALTER TABLE user_credits ALTER credits TYPE numeric")
        with asyncio.Runner() as runner:
            runner.run(installed(database))
        yield database


@pytest.fixture
def fractions(fraction_database: Database) -> Database:
    """The same with fractions of credits, on the newest version only."""
    fraction_database.run(f"DELETE FROM user_credits; {EMPTY}")
    return fraction_database


@pytest.fixture
def settings(installation: Database) -> Settings:
    """Those it was installed with."""
    return configured(installation)


@pytest.fixture
async def line(settings: Settings) -> AsyncIterator[Line]:
    """The line without its daemon, with nothing left to do."""
    async with Line.settled(settings) as settled:
        yield settled


@pytest.fixture
async def application(installation: Database) -> AsyncIterator[Session]:
    """The application's session."""
    async with installation.connect() as connection:
        yield connection


@pytest.fixture
async def publishing(settings: Settings) -> AsyncIterator[Publishing]:
    """Run publishers, each until the end of its block."""
    async with publishers(settings) as run:
        yield run


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    name = f"role_{os.getpid()}_{next(_numbers)}"
    database.run(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    yield name
    database.run(f"DROP OWNED BY {name} CASCADE")
    database.run(f"DROP ROLE {name}")


@pytest.fixture(scope="module")
def shapes(postgres_server: Reachable) -> Iterator[Shapes]:
    made = Shapes(postgres_server)
    yield made
    made.close()


@pytest.fixture
async def reference(shapes: Shapes) -> Installed:
    """The reference table, installed, shared by the tests of a version."""
    return await shapes.get(REFERENCE)
