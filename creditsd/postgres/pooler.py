"""Tells whether a pooler lies in between, and of which kind, before anything is set or locked in a session it lends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from psycopg import AsyncConnection

from creditsd.domain.errors import DatabaseUnavailable

LENT = (
    "this needs a session of its own, and the way to PostgreSQL leads through a transaction pooler, which lends its "
    "sessions to others: set listen_dsn (CREDITSD_LISTEN_DSN) to a direct connection"
)
LENT_BY_STATEMENT = (
    "the pooler lends its sessions for one statement at a time, and creditsd works in transactions: set its pool_mode "
    "to transaction, or dsn (CREDITSD_DSN) to a direct connection"
)

OTHERS = 3
ASKED = 8  # times, after each of the others has joined
PATIENCE_SECONDS = 10.0

AnyConnection = AsyncConnection[Any]


async def server_pid(connection: AnyConnection) -> int:
    """Return the process of the session behind a connection; what a pooler told at its start names none."""
    cursor = await connection.execute(b"SELECT pg_catalog.pg_backend_pid()", prepare=False)
    found = await cursor.fetchone()
    assert found is not None
    return int(found[0])


async def pooled(connection: AnyConnection) -> bool:
    """Whether a pooler lies in between: the server tells its process at the start, and a pooler makes one up."""
    return await server_pid(connection) != connection.info.backend_pid


async def lends(connection: AnyConnection, opened: Callable[[], Awaitable[AnyConnection]]) -> bool:
    """Whether a pooler lends sessions to whoever comes, instead of giving each client one of its own.

    Where each has its own, it is the same one whenever it is asked, and nobody else's. Where they are lent, some that
    ask in no order get each other's. Nothing is left in a session that would tell it more surely.
    """
    pids: dict[AnyConnection, int] = {connection: await server_pid(connection)}
    async with AsyncExitStack() as stack:
        for _ in range(OTHERS):
            other = await stack.enter_async_context(_closing(opened))
            for each in [other, *pids, *random.choices([*pids, other], k=ASKED)]:
                pid = await _asked(each)
                if pids.setdefault(each, pid) != pid or len(set(pids.values())) < len(pids):
                    return True
    return False


@asynccontextmanager
async def _closing(opened: Callable[[], Awaitable[AnyConnection]]) -> AsyncIterator[AnyConnection]:
    connection = await opened()
    try:
        yield connection
    finally:
        await connection.close()


async def _asked(connection: AnyConnection) -> int:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await server_pid(connection)
    except TimeoutError:
        raise DatabaseUnavailable(
            f"the pooler had no session to spare for {PATIENCE_SECONDS:g} s: is its pool large enough?"
        ) from None
