"""Totals that go up and down, publishers that come and go, and a sink that keeps what it was told of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from creditsd.config.settings import Settings
from creditsd.delivery.publisher import Publisher
from creditsd.delivery.timings import Timings
from creditsd.domain.events import TYPES, Event, Type
from creditsd.domain.total import Total
from creditsd.postgres.connections import Pool
from creditsd.sinks import Rejection, Sink
from tests.conftest import Database
from tests.integration.line import USER, Line, MemorySink, configured
from tests.integration.publishing import QUICK

PUT = """
    WITH gone AS (DELETE FROM user_credits WHERE user_id = %s)
    INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES (%s, %s, 'active', 'subscription')
"""


class Choosing(MemorySink):
    """A sink that keeps what it was told, and may refuse some of it."""

    def __init__(self, max_batch: int = 2000, events: Sequence[Type] = TYPES) -> None:
        super().__init__(max_batch)
        self.events = events
        self.told: list[tuple[str, Event]] = []
        self.refuses_types: set[str] = set()

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        await super().deliver(totals)
        return [found for total in totals if (found := self._take(total)) is not None]

    def _take(self, total: Total) -> Rejection | None:
        accepted: list[Event] = []
        for event in total.owed if total.owed is not None else (Event("credits.updated", total.version),):
            if event.type in self.refuses_types:
                return Rejection(total, "not today", accepted=tuple(accepted))
            accepted.append(event)
            self.told.append((total.user_id, event))
        return None

    def types(self, name: str = USER) -> list[str]:
        return [event.type for told, event in self.told if told == name]


SELDOM = replace(QUICK, retry_delays_seconds=(3600.0,))
"""Nothing that was refused is tried again while a test lasts."""


@dataclass(slots=True)
class Stage:
    """A line, and publishers that come and go."""

    line: Line
    database: Database
    connections: Pool
    stored: list[Total] = field(default_factory=list)
    timings: Timings = SELDOM

    async def put(self, amount: int, name: str = USER) -> list[Total]:
        self.database.run(PUT, [name, name, amount])
        found = await self.line.settle()
        self.stored += found
        return found

    async def goes(self, *amounts: int, name: str = USER) -> None:
        for amount in amounts:
            await self.put(amount, name)

    @asynccontextmanager
    async def publishing(self, sink: Sink, *, killed: bool = False, every: bool = False) -> AsyncIterator[Publisher]:
        """Publish to a sink until the end of the block; `killed`, whatever is not saved by then is lost."""
        publisher = Publisher("memory", sink, self.connections, every=every, timings=self.timings)
        publisher.lead(self.stored[-1].version if self.stored else 0)
        task = asyncio.create_task(publisher.run())
        try:
            yield publisher
        finally:
            if killed:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                await sink.close()
            else:
                await publisher.end()
                async with asyncio.timeout(60):
                    await task
                await publisher.close()

    async def tell(self, sink: Sink, *, every: bool = False) -> None:
        """Publish all that is stored, and end."""
        async with self.publishing(sink, every=every):
            pass

    def saved(self) -> Any:
        """Cursor, and up to which version everyone has been told."""
        return self.database.run("SELECT cursor, events_after FROM creditsd.sinks")[0]

    def waiting(self) -> list[tuple[Any, ...]]:
        return self.database.run("SELECT accepted FROM creditsd.deliveries")


def settings_of(database: Database) -> Settings:
    return configured(database, events={"low_credits": 10, "recovered_credits": 50}, history={"days": 3})
