"""Refused deliveries as a person deals with them: list, try again, give up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from creditsd.admin.sink_names import check_sink
from creditsd.config.settings import Settings
from creditsd.domain.errors import InputError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, connected, read_as, row, rows
from creditsd.schema import install as schema

NEAR = 1000  # so many users are looked through for the nearest right id


@dataclass(frozen=True, slots=True)
class FailedDelivery:
    """One refused delivery; without `next_at` a dead letter."""

    sink: str
    user_id: str
    version: int
    attempt: int
    next_at: datetime | None
    last_status: int | None
    last_error: str
    refused_at: datetime
    tried_at: datetime
    accepted: list[str]  # what was owed beside the total and has arrived


class FailedDeliveries:
    """The table of refused deliveries. What is decided here the publishers learn at once."""

    def __init__(self, connection: Connection, settings: Settings, user_id_type: str) -> None:
        self._connection = connection
        self._settings = settings
        self._user_id_type = user_id_type

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings) -> AsyncIterator[FailedDeliveries]:
        """Connect for as long as the block lasts. Raises SchemaError where the database is not as the settings say."""
        opened = connected(settings.dsn, purpose="deliveries", schema=settings.schema, shared=settings.shared)
        async with opened as connection:
            yield cls(connection, settings, (await schema.missing(connection, settings)).user_id_type)

    async def list(
        self, sink: str | None = None, user_id: str | None = None, *, dead: bool = False, limit: int
    ) -> Sequence[FailedDelivery]:
        """List refused deliveries, those tried next first, the dead last; of a sink that is known."""
        if sink is not None:
            await check_sink(self._connection, self._settings, sink)
        return await self._listed(sink, user_id, dead=dead, limit=limit)

    async def show(self, sink: str, user_id: str) -> FailedDelivery:
        """Return one; raises InputError where that sink has refused nothing of that user."""
        await check_sink(self._connection, self._settings, sink)
        found = await self._listed(sink, user_id, dead=False, limit=1)
        if not found:
            raise await self._unknown_user(sink, user_id)
        return found[0]

    async def retry(self, sink: str, user_id: str | None) -> int:
        """Have one user's or everybody's tried again now, from the schedule's beginning; return how many."""
        return await self._decide("queries/deliveries_retried", sink, user_id)

    async def drop(self, sink: str, user_id: str | None) -> int:
        """Give up one user's or everybody's; return how many. The next change of such a user is told as ever."""
        return await self._decide("queries/deliveries_dropped", sink, user_id)

    async def _decide(self, query: str, sink: str, user_id: str | None) -> int:
        await check_sink(self._connection, self._settings, sink)
        with read_as(self._user_id_type, user_id or ""):
            found = await rows(self._connection, sql_files.sql(query), {"sink": sink, "user_id": user_id})
        if user_id is not None and not found:
            raise await self._unknown_user(sink, user_id)
        if found:
            await row(self._connection, sql_files.sql("queries/sinks_rung"))
        return len(found)

    async def _listed(
        self, sink: str | None, user_id: str | None, *, dead: bool, limit: int
    ) -> Sequence[FailedDelivery]:
        parameters = {"sink": sink, "user_id": user_id, "dead": dead, "limit": limit}
        with read_as(self._user_id_type, user_id or ""):
            found = await rows(self._connection, sql_files.sql("queries/deliveries_listed"), parameters)
        return [FailedDelivery(*each) for each in found]

    async def _unknown_user(self, sink: str, user_id: str) -> InputError:
        others = [each.user_id for each in await self._listed(sink, None, dead=False, limit=NEAR)]
        return InputError.unknown(f"refused delivery to {sink} is of user", user_id, others)
