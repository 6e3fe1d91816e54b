"""A statement that is prepared once answers as the driver does, and fails as it does."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import uvloop
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.postgres.connections import Connection, connected, rows
from creditsd.postgres.prepared import Prepared
from tests.conftest import PATIENCE_SECONDS, Database, eventually

VALUES = """
SELECT
    n,
    %(text)s::text,
    %(number)s::bigint + n,
    1.50::numeric,
    NULL::text,
    '100%%',
    %(at)s::text::timestamptz,
    %(text)s::text
FROM generate_series(1, 3) AS n
"""
PARAMETERS = {"text": "Zo\u00eb's", "number": 7, "at": "2026-01-02 03:04:05+00", "another's": "unused"}
PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'values%'"


async def test_it_answers_as_the_driver_does(database: Database) -> None:
    async with connected(database.dsn, purpose="test") as connection:
        statement = Prepared(connection, "values", VALUES)
        expected = await rows(connection, VALUES, PARAMETERS)
        assert expected[1][1:4] == ("Zo\u00eb's", 9, Decimal("1.50"))
        assert expected[1][6] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        for _ in range(3):
            assert await statement.rows(PARAMETERS) == expected
        assert (await statement.rows(PARAMETERS | {"text": None}))[0][1] is None
        assert await Prepared(connection, "values", VALUES).rows(PARAMETERS) == expected
        assert await rows(connection, PREPARED) == [(2,)]


async def test_an_error_is_the_servers_and_leaves_the_session_as_it_was(database: Database) -> None:
    async with connected(database.dsn, purpose="test") as connection:
        statement = Prepared(connection, "values", "SELECT 1 / %(by)s::integer")
        with pytest.raises(errors.DivisionByZero):
            await statement.rows({"by": 0})
        assert await statement.rows({"by": 1}) == [(1,)]
        with pytest.raises(SchemaError, match="does not exist"):
            await Prepared(connection, "values", "SELECT * FROM nowhere").rows({})
        assert connection.info.transaction_status == TransactionStatus.IDLE


async def sleeping(connection: Connection) -> tuple[Prepared, asyncio.Future[list[TupleRow]]]:
    """Prepare a statement, and return it together with a run of it that the server is at."""
    statement = Prepared(connection, "values", "SELECT pg_sleep(%(seconds)s::integer)")
    await statement.rows({"seconds": 0})
    running = asyncio.ensure_future(statement.rows({"seconds": 60}))

    async def runs() -> bool:
        return connection.info.transaction_status == TransactionStatus.ACTIVE

    await eventually(runs)
    return statement, running


async def test_a_session_that_is_ended_is_the_databases_failure(database: Database) -> None:
    async with connected(database.dsn, purpose="test") as connection:
        statement, running = await sleeping(connection)
        database.run("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
        with pytest.raises(DatabaseUnavailable):
            await running
        with pytest.raises(DatabaseUnavailable):
            await statement.rows({"seconds": 0})


def test_a_session_that_is_ended_at_any_moment_is_noticed_on_the_daemons_event_loop_too(database: Database) -> None:
    async def ended(wait: float) -> None:
        async with connected(database.dsn, purpose="test") as connection:
            statement = Prepared(connection, "values", "SELECT pg_sleep(%(seconds)s::float8)")
            await statement.rows({"seconds": 0})
            running = asyncio.ensure_future(until_it_fails(statement))
            await asyncio.sleep(wait)
            await asyncio.to_thread(database.run, "SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
            with pytest.raises(DatabaseUnavailable):
                await running

    async def until_it_fails(statement: Prepared) -> None:
        while True:
            await statement.rows({"seconds": 0.02})

    async def all_of_them() -> None:
        for number in range(30):
            await ended(number * 0.001)

    uvloop.run(all_of_them())


def take_once_closed(number: int, near: socket.socket, heard: Callable[[], None]) -> None:
    """Look at each turn of the loop whether a descriptor is closed, and then give its number to a socket, and read."""
    loop = asyncio.get_running_loop()
    if Path(f"/proc/self/fd/{number}").exists():
        loop.call_soon(take_once_closed, number, near, heard)
    else:
        os.dup2(near.fileno(), number)
        loop.add_reader(number, heard)


async def ended_while_it_runs(database: Database, near: socket.socket, heard: Callable[[], None]) -> int:
    """Run a statement whose session is ended, and have a socket take its number at once; return that."""
    async with connected(database.dsn, purpose="test") as connection:
        _, running = await sleeping(connection)
        number = connection.fileno()
        take_once_closed(number, near, heard)
        database.run("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
        with pytest.raises(DatabaseUnavailable):
            await running
    return number


@pytest.mark.parametrize("loops", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_whoever_opens_a_socket_once_the_library_has_closed_ours_is_heard(
    database: Database, loops: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    # It has the same number, and its reader was taken away: whatever was to arrive there, nobody heard of it.
    async def told(near: socket.socket, far: socket.socket) -> None:
        heard = asyncio.Event()
        number = await ended_while_it_runs(database, near, heard.set)
        far.send(b"news")
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await heard.wait()
        finally:
            asyncio.get_running_loop().remove_reader(number)
            os.close(number)

    near, far = socket.socketpair()
    with near, far, asyncio.Runner(loop_factory=loops) as runner:
        runner.run(told(near, far))


async def test_who_is_cancelled_leaves_no_session_of_which_nobody_knows_what_it_does(database: Database) -> None:
    async with connected(database.dsn, purpose="test") as connection:
        pid = connection.info.backend_pid
        running = asyncio.ensure_future(Prepared(connection, "values", "SELECT pg_sleep(60)").rows({}))

        async def runs() -> bool:
            return connection.info.transaction_status == TransactionStatus.ACTIVE

        await eventually(runs)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert connection.closed
        database.run("SELECT pg_terminate_backend(%s)", [pid])


async def test_where_a_pooler_may_lend_the_session_nothing_is_prepared_in_it(database: Database) -> None:
    async with connected(database.dsn, purpose="test", shared=True) as connection:
        assert len(await Prepared(connection, "values", VALUES).rows(PARAMETERS)) == 3
        assert await rows(connection, PREPARED) == [(0,)]
