"""Deletes what was written down of attempts more than a day ago."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog

from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Pool, borrowed, rows

log = structlog.get_logger()


class AttemptPurger:
    """A job of whoever leads; the table is small, see AttemptLog."""

    def __init__(
        self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep, *, purge_seconds: float = 600.0
    ) -> None:
        self._pause = pause
        self._purge_seconds = purge_seconds

    async def run(self, pool: Pool) -> NoReturn:
        """Delete in the background, until cancelled."""
        while True:
            try:
                async with borrowed(pool) as connection:
                    await rows(connection, sql_files.sql("queries/attempts_purged"))
            except (DatabaseUnavailable, SchemaError) as error:
                log.debug("attempts.purge_interrupted", reason=str(error))
            await self._pause(self._purge_seconds)
