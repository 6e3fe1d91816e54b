"""What an install tells a person of the table: what could be better, and what means something else from now on."""

from __future__ import annotations

from creditsd.schema.installation import Installation
from creditsd.schema.source_table import SourceTable


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
    if not source.indexed:
        notes.append(
            f"{table} has no index that begins with {columns.user_id}: every recompute reads the whole table; "
            f"CREATE INDEX CONCURRENTLY ON {table} ({columns.user_id})"
        )
    return notes


def newly_read(source: SourceTable, installed: Installation) -> list[str]:
    """Say what of the table means something from now on that meant nothing before."""
    starts_at = source.column("starts_at")
    if starts_at is None or installed.source.get("columns", {}).get("starts_at") == starts_at.name:
        return []
    return [f"rows of {source.settings.table} count from their {starts_at.name} on: everyone is recomputed"]


_WITHOUT = {
    "plan_type": "planType is none, no row is a subscription and none is expired when empty",
    "membership": "membership is null",
    "subscription_id": "subscription_id is null",
    "expires_at": "no row ever ends",
    "created_at": "which row is the newest is not known",
}
