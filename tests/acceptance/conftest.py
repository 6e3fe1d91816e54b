"""An application's database, and the environment its operator gives creditsd."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest

from tests.acceptance.command import Done, creditsd, environment, install
from tests.conftest import SERVERS, Database, Servers, fresh_database
from tests.servers import REFERENCE_TABLE, Valkey

ONE = "00000000-0000-0000-0000-000000000001"
TWO = "00000000-0000-0000-0000-000000000002"

ROWS = f"""
INSERT INTO public.user_credits
    (user_id, credits, status, plan_type, membership, subscription_id, expires_at, created_at)
VALUES
    ('{ONE}', 100, 'active', 'subscription', 'Pro', 'sub_1', '2126-12-22', '2026-01-01'),
    ('{ONE}', 20, 'active', 'one_time', 'Pack', NULL, NULL, '2026-01-02'),
    ('{ONE}', 55, 'active', 'one_time', 'Old', NULL, '2020-01-01', '2019-01-01'),
    ('{TWO}', 7, 'cancelled', 'one_time', 'Pack', NULL, NULL, '2026-01-01')
"""


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody with a shell, an environment and a database."""

    database: Database
    env: dict[str, str]

    async def creditsd(self, *args: str, **settings: str) -> Done:
        """Run a command, with settings of its own if need be."""
        return await creditsd(*args, env=self.env | settings)

    async def install(self, *args: str, **settings: str) -> None:
        """Install, which must succeed."""
        done = await self.creditsd("install", *args, **settings)
        assert done.code == 0, done.err

    def installed(self) -> bool:
        """Whether anything of ours is in the database."""
        schemas = self.database.run("SELECT count(*) FROM pg_namespace WHERE nspname = 'creditsd'")
        triggers = self.database.run("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'creditsd%'")
        return (schemas, triggers) != ([(0,)], [(0,)])


@pytest.fixture
def operator(reference_table18: Database) -> Operator:
    """Somebody whose table has two users in it; nothing is installed."""
    reference_table18.run(ROWS)
    return Operator(reference_table18, environment(CREDITSD_DSN=reference_table18.dsn))


@pytest.fixture(scope="session")
def installed_template(servers: Servers) -> Iterator[str]:
    """A database in which all that has been done, to be copied."""
    server, name = servers.get(SERVERS[0]), f"acceptance_{os.getpid()}"
    dsn = server.create_database(name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(REFERENCE_TABLE.encode())
        connection.execute(ROWS.encode())
    install(dsn)
    yield name
    server.drop_database(name)


@pytest.fixture
def installed(servers: Servers, installed_template: str, valkey: Valkey) -> Iterator[Operator]:
    """The same with creditsd installed, and a Valkey to publish to."""
    with fresh_database(servers.get(SERVERS[0]), installed_template) as copy:
        yield Operator(copy, environment(CREDITSD_DSN=copy.dsn, CREDITSD_SINKS=valkey.url))


Fails = Callable[..., Awaitable[str]]


@pytest.fixture
def fails(operator: Operator) -> Fails:
    """Run a command that must fail with a code, in one clear line, and change nothing; return the line."""

    async def run(code: int, *args: str, **settings: str) -> str:
        before = operator.installed()
        done = await operator.creditsd(*args, **settings)
        assert done.code == code, done.err or done.out
        assert done.out == ""
        assert "Traceback" not in done.err
        assert done.err.count("\n") == 1, done.err
        assert done.err.startswith("creditsd: ")
        assert operator.installed() == before
        return done.err.strip()

    return run
