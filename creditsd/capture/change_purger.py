"""Deletes the changes that are read for good, in the background and in bounded steps."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, NoReturn

import structlog

from creditsd.capture.change_reader import ChangeReader
from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.postgres.connections import Pool, borrowed

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Timings:
    """How many changes a step deletes at most, and the pause where nothing is left."""

    max_changes: int = 5000
    pause_seconds: float = 1.0


class ChangePurger:
    """The job of one leadership: deletes what its reader has read and saved."""

    def __init__(self, reader: ChangeReader, timings: Timings | None = None) -> None:
        self._reader = reader
        self._timings = timings or Timings()

    async def run(self, pool: Pool) -> NoReturn:
        """Delete in the background, until cancelled; without the database that pauses."""
        position: tuple[Any, ...] | None = None
        while True:
            try:
                if position or self._reader.unpurged:
                    async with borrowed(pool) as connection:
                        position = await self._reader.purge(connection, self._timings.max_changes, position)
            except (DatabaseUnavailable, SchemaError) as error:
                log.debug("changes.purge_interrupted", reason=str(error))
                position = None
            await asyncio.sleep(0 if position else self._timings.pause_seconds)
