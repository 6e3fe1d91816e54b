"""The installation that a connection is about, as sinks tell it from others."""

from __future__ import annotations

from creditsd.domain.owner import Owner
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row
from creditsd.postgres.session import schema_of


async def owner_of(connection: Connection) -> Owner:
    """Read which database this is. Raises DatabaseUnavailable, and SchemaError where nothing is installed."""
    found = await row(connection, sql_files.sql("queries/this_database"))
    assert found is not None
    return Owner(schema_of(connection), found[0])
