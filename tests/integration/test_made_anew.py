"""A statement that runs into an install, which makes our functions and types anew, runs once more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from creditsd.domain.errors import DatabaseUnavailable
from creditsd.postgres.connections import Connection, connected, rows
from creditsd.postgres.prepared import Prepared
from tests.conftest import Database, eventually

WAITS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted"

MADE = """
DROP FUNCTION IF EXISTS public.waits();
DROP TYPE IF EXISTS public.pair;
CREATE TYPE public.pair AS (one integer, two integer);
CREATE FUNCTION public.waits() RETURNS SETOF public.pair LANGUAGE plpgsql AS $function$
DECLARE
    found public.pair;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7);
    found := ROW(1, 2)::public.pair;
    RETURN NEXT found;
END
$function$;
"""


SELECT = "SELECT * FROM public.waits()"

Rows = list[tuple[object, ...]]


async def prepared(connection: Connection, query: str) -> Rows:
    return list(await Prepared(connection, "waits", query).rows({}))


async def made_anew_within(
    connection: Connection, database: Database, run: Callable[[Connection, str], Awaitable[Rows]] = rows
) -> Rows:
    """Make the type and the function anew while a statement waits within it, and return its rows."""
    async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as other:
        await other.execute(MADE.encode())
        await other.execute("SELECT pg_advisory_lock(7)")
        reading = asyncio.ensure_future(run(connection, SELECT))
        await eventually(lambda: rows(other, WAITS), lambda found: found == [(1,)])
        await other.execute(MADE.encode())
        await other.execute("SELECT pg_advisory_unlock(7)")
        return list(await reading)


@pytest.mark.parametrize("run", [rows, prepared])
async def test_a_statement_by_itself_runs_once_more(
    database: Database, run: Callable[[Connection, str], Awaitable[Rows]]
) -> None:
    async with connected(database.dsn, purpose="test") as connection:
        assert await made_anew_within(connection, database, run) == [(1, 2)]


async def test_what_is_part_of_a_transaction_is_the_transactions_to_repeat(database: Database) -> None:
    async with connected(database.dsn, purpose="test") as connection:
        with pytest.raises(DatabaseUnavailable, match="cache lookup failed for type"):
            async with connection.transaction():
                await made_anew_within(connection, database)
