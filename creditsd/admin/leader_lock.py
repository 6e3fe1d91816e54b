"""The leader's lock in the hands of a command, which does itself what a daemon would do, while none leads."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from creditsd.config.settings import Settings
from creditsd.domain.errors import DatabaseUnavailable
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, connected, is_shared, kept, row


async def led(connection: Connection) -> bool:
    """Whether anybody leads."""
    return await _said(connection, "queries/leader_found")


@asynccontextmanager
async def leading(connection: Connection, settings: Settings, *, purpose: str) -> AsyncIterator[Connection | None]:
    """Lead for as long as the block lasts, on the connection that is returned; it is None where somebody leads already.

    A shared session can hold no lock: then it is a direct connection. Raises ConfigError where there is none.
    """
    async with AsyncExitStack() as stack:
        if is_shared(connection):
            if await led(connection):
                yield None
                return
            opened = connected(settings.direct_dsn, purpose=purpose, schema=settings.schema, direct=True)
            connection = await stack.enter_async_context(opened)
        async with kept(connection):
            taken = await _said(connection, "queries/leadership_taken")
        if not taken:
            yield None
            return
        try:
            yield connection
        finally:
            with contextlib.suppress(DatabaseUnavailable):  # where the session is gone, its lock is too
                await row(connection, sql_files.sql("queries/leadership_returned"))


async def _said(connection: Connection, query: str) -> bool:
    found = await row(connection, sql_files.sql(query))
    return found is not None and bool(found[0])
