"""Where each step of each total is kept for a time: its daily partitions, opened ahead and dropped in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import structlog

from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, Pool, borrowed, row

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Timings:
    """How often the partitions are looked at, and how soon again where there is more to do."""

    tidy_seconds: float = 600.0
    again_seconds: float = 1.0


class HistoryPartitions:
    """The job. What is not opened in time costs nothing but a later, slower way to be deleted."""

    def __init__(
        self,
        days: int,
        timings: Timings | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._days = days
        self._timings = timings or Timings()
        self._pause = pause

    async def run(self, pool: Pool) -> NoReturn:
        """Open and drop partitions in the background, until cancelled; without the database that pauses."""
        while True:
            again = False
            try:
                async with borrowed(pool) as connection:
                    again = await self.tidy(connection)
            except (DatabaseUnavailable, SchemaError) as error:
                log.debug("history.tidy_interrupted", reason=str(error))
            await self._pause(self._timings.again_seconds if again else self._timings.tidy_seconds)

    async def tidy(self, connection: Connection) -> bool:
        """Open today's and tomorrow's partition, drop the oldest that is past its days; True where there is more.

        Waits a tenth of a second for a lock; what fails is said by the server's warnings, or done the next time.
        """
        found = await row(connection, sql_files.sql("queries/history_tidied"), {"history_days": self._days})
        assert found is not None
        done = found[0]
        for partition in done["opened"]:
            log.info("history.partition_opened", partition=partition)
        for partition in done["dropped"]:
            log.info("history.partition_dropped", partition=partition)
        return bool(done["more"])
