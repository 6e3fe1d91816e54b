"""Which sinks there are: those that are configured, and those that only the database still knows."""

from __future__ import annotations

from collections.abc import Sequence

from creditsd.config.settings import Settings
from creditsd.domain.errors import InputError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, rows


async def sink_names(connection: Connection, settings: Settings) -> Sequence[str]:
    """List the configured sinks in their order, then those that only the database still knows."""
    known = await rows(connection, sql_files.sql("queries/cursors"))
    return list(dict.fromkeys([*settings.sink_names, *(name for name, *_ in known)]))


async def check_sink(connection: Connection, settings: Settings, name: str) -> None:
    """Raise InputError where no sink is called so, with the nearest that is."""
    names = await sink_names(connection, settings)
    if name not in names:
        raise InputError.unknown("sink is called", name, names)
