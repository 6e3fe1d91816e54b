"""Who else holds the locks we need: any role that may connect can take one, or leave a transaction open."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, rows

SECOND_LOOK_SECONDS = 0.2


class Holder(NamedTuple):
    """A session that holds a lock, or that a session of ours waits for; equal in two looks where it still does."""

    lock: str
    pid: int
    role: str
    application: str
    transaction: str

    def __str__(self) -> str:
        return f"process {self.pid} (role {self.role}, {self.application or 'nameless'}) holds {self.lock}"


async def strangers(connection: Connection) -> set[Holder]:
    """Find who holds an advisory lock of ours, or one that the application's writes wait for, without being one of us.

    Two looks tell for sure: locks are not read all at once, so one look may take a writer for a stranger.
    """
    return await _holders(connection, "queries/lock_strangers", {})


async def blockers(connection: Connection, pid: int) -> set[Holder]:
    """Find whom a session waits for."""
    return await _holders(connection, "queries/lock_blockers", {"pid": pid})


async def strangers_for_sure(connection: Connection) -> set[Holder]:
    """Find who holds an advisory lock of ours without being one of us, by two looks; one where there is nobody."""
    found = await strangers(connection)
    if found:
        await asyncio.sleep(SECOND_LOOK_SECONDS)
        found &= await strangers(connection)
    return found


async def _holders(connection: Connection, name: str, parameters: Mapping[str, Any]) -> set[Holder]:
    return {Holder(*each) for each in await rows(connection, sql_files.sql(name), parameters)}
