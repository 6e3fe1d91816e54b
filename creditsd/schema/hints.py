"""What an install tells a person of the table: what could be better, and what means something else from now on."""

from __future__ import annotations

from psycopg import errors

from creditsd.domain.errors import DatabaseUnavailable
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row, rows
from creditsd.schema.installation import Installation
from creditsd.schema.source_table import SourceTable

LEFT_OUT_SECONDS = 1  # for which a look through the whole table may hold up the end of an install


def of_table(source: SourceTable) -> list[str]:
    """Say what works, but not as well as it could."""
    table, columns = source.settings.table, source.settings.columns
    notes = [
        f"{table} has no column {name!r}: {_WITHOUT[key]}"
        for key, name in columns.model_dump().items()
        if key in _WITHOUT and source.column(key) is None
    ]
    if source.zoneless:
        names, zone = ", ".join(source.zoneless), source.settings.timezone
        notes.append(f"{names} of {table} says no time zone: read as {zone} (source.timezone)")
    notes += [f"{each}: no row counts by that word of source.active_statuses" for each in source.never_active]
    if not source.indexed:
        notes.append(
            f"{table} has no index that begins with {columns.user_id}: every recompute reads the whole table; "
            f"CREATE INDEX CONCURRENTLY ON {table} ({columns.user_id})"
        )
    return notes


async def forgotten(connection: Connection, source: SourceTable) -> list[str]:
    """Name other installations on the table in which nobody leads: what they capture grows, and nobody deletes it."""
    found = await rows(connection, sql_files.sql("queries/neighbours"), {"relation": source.oid})
    return [
        f"creditsd also stands on {source.settings.table} as {schema}, and nobody leads there: each write is kept in "
        f"{schema}.changes until a daemon has read it; start its daemon, or run `CREDITSD_SCHEMA={schema} creditsd "
        "uninstall`"
        for schema, led in found
        if not led
    ]


async def trigger_makers(connection: Connection, source: SourceTable) -> list[str]:
    """Name who may put a trigger on the table: it runs as the owner where a plan is expired, and may replace ours."""
    table = source.settings.table
    return [
        f"{maker} may put triggers on {table}, in the place of ours too: they run as {owner} whenever an empty plan is "
        f"expired; REVOKE TRIGGER ON {table} FROM {maker}, unless it is trusted with all that {owner} may do"
        for maker, owner in await rows(connection, sql_files.sql("queries/trigger_makers"), {"relation": source.oid})
    ]


def newly_read(source: SourceTable, installed: Installation) -> list[str]:
    """Say what of the table means something from now on that meant nothing before."""
    table, where = source.settings.table, source.settings.where
    said = []
    starts_at = source.column("starts_at")
    if starts_at is not None and installed.source.get("columns", {}).get("starts_at") != starts_at.name:
        said.append(f"rows of {table} count from their {starts_at.name} on: everyone is recomputed")
    if installed.source.get("where", "") != where:
        which = f"another condition says which rows of {table} count" if where else f"no row of {table} is left out"
        said.append(f"{which} (source.where): everyone is recomputed")
    return said


async def left_out(connection: Connection, source: SourceTable) -> list[str]:
    """Say so where `source.where` leaves every row out; a table that tells it only slowly is not asked to the end."""
    if not source.settings.where:
        return []
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute(f"SET LOCAL statement_timeout = '{LEFT_OUT_SECONDS:g}s'")
            found = await row(connection, sql_files.sql("queries/nothing_matches"))
    except DatabaseUnavailable as error:
        if not isinstance(error.__cause__, errors.QueryCanceled):
            raise
        return []
    if found is None or not found[0]:
        return []
    return [f"no row of {source.settings.table} matches source.where: nobody has any credits"]


_WITHOUT = {
    "plan_type": "planType is none, no row is a subscription and none is expired when empty",
    "membership": "membership is null",
    "subscription_id": "subscription_id is null",
    "expires_at": "no row ever ends",
    "created_at": "which row is the newest is not known",
}
