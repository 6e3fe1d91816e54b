"""A stranger fills the server's lock table: writes end as they would without us, but for one place of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
import pytest

from tests.conftest import Database, eventually
from tests.faults.load import fill
from tests.faults.test_upgrades import documents
from tests.faults.truth import wrong_among
from tests.integration.line import MemorySink, installed
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE, Postgres, versions

WRITES = (
    "INSERT INTO public.user_credits (user_id, credits, status) SELECT user_id, 1, 'active' FROM user_credits LIMIT 1",
    "UPDATE public.user_credits SET credits = credits + 1 WHERE id = 2",
    "UPDATE public.user_credits SET credits = credits + 1",
    "DELETE FROM public.user_credits WHERE id = (SELECT max(id) FROM public.user_credits)",
)
SMALL = {"max_locks_per_transaction": "10", "max_connections": "40"}
OUT = "53200"  # out_of_memory: "out of shared memory", as PostgreSQL says of its lock table


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody who takes every lock there is, and gives some back."""

    connection: psycopg.AsyncConnection[tuple[object, ...]]

    async def take_all(self) -> None:
        """Take what is left; what was taken before the error stays."""
        ((held,),) = await self._run("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND objsubid = 1")
        with pytest.raises(psycopg.errors.OutOfMemory):
            await self._run(f"SELECT pg_advisory_lock(n) FROM generate_series({held} + 1, 1000000) AS n")

    async def give_back(self) -> None:
        """Give one back."""
        await self._run(
            "SELECT pg_advisory_unlock(max(objid::bigint)) FROM pg_locks WHERE pid = pg_backend_pid() AND objsubid = 1"
        )

    async def give_all_back(self) -> None:
        """Give all back."""
        await self._run("SELECT pg_advisory_unlock_all()")

    async def _run(self, query: str) -> list[tuple[object, ...]]:
        return await (await self.connection.execute(query.encode())).fetchall()


@asynccontextmanager
async def somebody(database: Database) -> AsyncIterator[Stranger]:
    async with database.connect() as connection:
        stranger = Stranger(connection)
        await stranger.take_all()
        yield stranger
        await stranger.give_all_back()


@pytest.fixture(params=sorted(versions(), reverse=True), ids=lambda version: f"pg{version}")
def two(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Database]]:
    """A server with a small lock table, and on it the table twice: in the databases bare and app."""
    with Postgres(versions()[request.param], SMALL) as server:
        for name in ("bare", "app"):
            server.create_database(name)
            database = Database(server, name, server.dsn(name))
            database.run(REFERENCE_TABLE)
            fill(database.dsn, 20)
        yield lambda name: Database(server, name, server.dsn(name))


async def ended(connection: psycopg.AsyncConnection[tuple[object, ...]], write: str) -> str | None:
    """How a write ends: None, or by which error."""
    try:
        await connection.execute(write.encode())
    except psycopg.Error as error:
        return error.sqlstate
    return None


async def test_with_a_full_lock_table_writes_fail_as_without_us_and_with_two_places_left_they_pass(
    two: Callable[[str], Database],
) -> None:
    # A transaction that writes takes one place for its number, and by us one more: K, shared.
    await installed(two("app"))
    async with two("bare").connect() as bare, two("app").connect() as app:
        for connection in (bare, app, bare, app):
            for write in WRITES:
                await connection.execute(write.encode())
        async with somebody(two("bare")) as stranger:
            for places in (0, 1, 2, 3):
                for write in WRITES:
                    without, with_us = await ended(bare, write), await ended(app, write)
                    assert without == (OUT if places == 0 else None)
                    assert with_us == (OUT if places < 2 else None)
                await stranger.give_back()


async def test_a_daemon_that_finds_no_lock_waits_and_once_there_are_some_everyone_is_told(
    two: Callable[[str], Database],
) -> None:
    database = two("app")
    settings, sink = await installed(database), MemorySink()

    async def wrong() -> object:
        return await wrong_among(database.dsn, documents(sink))

    async with running(settings, sink) as daemon, database.connect() as app:
        await eventually(wrong, lambda found: found == {})
        await until(daemon, "doorbell", "asleep")
        async with somebody(two("bare")) as stranger:
            for _ in range(10):
                await stranger.take_all()
                await asyncio.gather(*(ended(app, write) for write in WRITES))
        for write in WRITES:
            await app.execute(write.encode())
        await eventually(wrong, lambda found: found == {})
        await until(daemon, "state", "leading")
