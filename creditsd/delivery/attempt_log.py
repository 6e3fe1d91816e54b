"""Writes down what was sent to the sinks, apart from the delivery itself: nobody waits for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

import psycopg
import structlog

from creditsd.domain.delivery_attempt import DeliveryAttempt
from creditsd.domain.errors import ConfigError, DatabaseUnavailable, SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, Pool, borrowed, rows
from creditsd.postgres.encoding import storable

log = structlog.get_logger()

MOST_KEPT = 10_000
"""Of each sink; a day of them, where those are fewer."""


class AttemptLog:
    """A job of whoever leads. `taken` returns of each sink what it has sent since that was asked last.

    What cannot be stored is dropped, whatever the database says to it: it is for people to read, and nothing depends
    on it.
    """

    def __init__(
        self,
        taken: Callable[[], Iterable[tuple[str, Sequence[DeliveryAttempt]]]],
        *,
        write_seconds: float = 1.0,
        longest_seconds: float = 10.0,
        most_kept: int = MOST_KEPT,
    ) -> None:
        self._taken = taken
        self._write_seconds = write_seconds
        self._longest_seconds = longest_seconds
        self._most_kept = most_kept
        self._warned = False

    async def run(self, pool: Pool) -> NoReturn:
        """Write in the background, until cancelled."""
        while True:
            await asyncio.sleep(self._write_seconds)
            await self.write(pool)

    async def write(self, pool: Pool) -> None:
        """Write what there is, `longest_seconds` at most for each sink, for it takes a connection from others."""
        for sink, attempts in self._taken():
            if not attempts:
                continue
            try:
                async with asyncio.timeout(self._longest_seconds), borrowed(pool) as connection:
                    asked = self._row(connection, sink, attempts)
                    await rows(connection, sql_files.sql("queries/attempts_kept"), asked)
            except (DatabaseUnavailable, SchemaError, TimeoutError) as error:
                self._tell(log.debug, sink, attempts, str(error) or "out of time")
            except (ConfigError, psycopg.Error) as error:
                say = log.debug if self._warned else log.warning
                self._warned = True
                self._tell(say, sink, attempts, str(error).partition("\n")[0])

    def _tell(self, say: Callable[..., None], sink: str, attempts: Sequence[DeliveryAttempt], reason: str) -> None:
        say("attempts.left_unwritten", sink=sink, attempts=len(attempts), reason=reason)

    def _row(self, connection: Connection, sink: str, attempts: Sequence[DeliveryAttempt]) -> dict[str, object]:
        return {
            "sink": sink,
            "at": [each.at for each in attempts],
            "user_ids": [each.user_id for each in attempts],
            "users": [each.users for each in attempts],
            "webhook_ids": [each.webhook_id for each in attempts],
            "statuses": [each.status for each in attempts],
            "milliseconds": [each.milliseconds for each in attempts],
            "results": [each.result for each in attempts],
            "answers": [storable(connection, each.answer) for each in attempts],
            "named": [json.dumps(each.named, ensure_ascii=False) for each in attempts],
            "most": self._most_kept,
        }
