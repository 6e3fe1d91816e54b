"""What was sent to a sink within a day, for people to read."""

from __future__ import annotations

from collections.abc import Sequence

from creditsd.admin.sink_names import check_sink
from creditsd.config.settings import Settings
from creditsd.domain.delivery_attempt import DeliveryAttempt
from creditsd.postgres import sql_files
from creditsd.postgres.connections import connected, rows
from creditsd.schema import install as schema


async def delivery_log(settings: Settings, sink: str, limit: int) -> Sequence[DeliveryAttempt]:
    """Return the newest first; raises InputError for a sink that nobody knows."""
    async with connected(
        settings.dsn, purpose="deliveries", schema=settings.schema, shared=settings.shared
    ) as connection:
        await schema.missing(connection, settings)
        await check_sink(connection, settings, sink)
        asked = {"sink": sink, "limit": limit}
        found = await rows(connection, sql_files.sql("queries/attempts_listed"), asked)
    return [DeliveryAttempt(*each) for each in found]
