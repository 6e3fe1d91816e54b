"""The installations of one database, each in a schema of its own: what `creditsd status --all` lists."""

from __future__ import annotations

from dataclasses import dataclass

from creditsd.config.command import of_installation
from creditsd.config.settings import Settings
from creditsd.domain.errors import SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import connected, row, rows

_NOTHING = "nothing is noted of what is installed: run `creditsd install`"
COUNTED = 1000
"""Unread changes are counted up to so many."""


@dataclass(frozen=True, slots=True)
class ListedInstallation:
    """One installation at a glance; where it cannot be read, `problem` says why, and the rest is not known.

    `migration` is its version, `lag_seconds` how long the oldest total waits for a sink that the leader serves.
    """

    schema: str
    table: str | None = None
    migration: int | None = None
    leader_pid: int | None = None
    unread: int | None = None
    lag_seconds: float | None = None
    problem: str = ""


async def listed(settings: Settings) -> list[ListedInstallation]:
    """Return the installations of the database, by their schemas. Raises ConfigError, DatabaseUnavailable.

    What somebody else has made, who is neither a superuser nor the owner of our table, is named and never read.
    """
    namespace, table = settings.source.relation
    ours = {"schema": namespace, "table": table}
    async with connected(settings.dsn, purpose="status", schema=settings.schema, shared=settings.shared) as connection:
        found = [tuple(each) for each in await rows(connection, sql_files.sql("queries/installations"), ours)]
    return [
        ListedInstallation(schema, problem=problem)
        if (problem := _unreadable(stranger, may_read=may_read))
        else await _seen(settings, schema)
        for schema, may_read, stranger in found
    ]


def _unreadable(stranger: str | None, *, may_read: bool) -> str:
    if stranger is not None:
        return f"{stranger} could have put there what runs as whoever reads it, so nobody else does: ask as {stranger}"
    return "" if may_read else "this role may not read it: ask as its owner, or as its daemon's role"


async def _seen(settings: Settings, schema: str) -> ListedInstallation:
    try:
        async with connected(settings.dsn, purpose="status", schema=schema, shared=settings.shared) as connection:
            found = await row(connection, sql_files.sql("queries/installation_seen"), {"limit": COUNTED})
    except SchemaError as error:  # of an older version, or taken apart by hand
        return ListedInstallation(schema, problem=str(error))
    if found is None:
        return ListedInstallation(schema, problem=of_installation(_NOTHING, schema))
    migration, table, leader_pid, unread, lag_seconds = found
    return ListedInstallation(schema, table, migration, leader_pid, unread, lag_seconds)
