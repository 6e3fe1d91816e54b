"""The installations of one database, each in a schema of its own: what `creditsd status --all` lists."""

from __future__ import annotations

from dataclasses import dataclass

from creditsd.config.settings import Settings
from creditsd.domain.errors import SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import connected, row, rows

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
    """Return the installations of the database, by their schemas. Raises ConfigError, DatabaseUnavailable."""
    async with connected(settings.dsn, purpose="status", schema=settings.schema, shared=settings.shared) as connection:
        names = [tuple(each) for each in await rows(connection, sql_files.sql("queries/installations"))]
    return [await _seen(settings, schema, readable=readable) for schema, readable in names]


async def _seen(settings: Settings, schema: str, *, readable: bool) -> ListedInstallation:
    if not readable:
        return ListedInstallation(
            schema, problem="this role may not read it: ask as its owner, or as its daemon's role"
        )
    try:
        async with connected(settings.dsn, purpose="status", schema=schema, shared=settings.shared) as connection:
            found = await row(connection, sql_files.sql("queries/installation_seen"), {"limit": COUNTED})
    except SchemaError as error:  # of an older version, or taken apart by hand
        return ListedInstallation(schema, problem=str(error))
    if found is None:
        return ListedInstallation(schema, problem="nothing is noted of what is installed: run `creditsd install`")
    migration, table, leader_pid, unread, lag_seconds = found
    return ListedInstallation(schema, table, migration, leader_pid, unread, lag_seconds)
