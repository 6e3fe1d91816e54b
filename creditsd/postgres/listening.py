"""Listens on a channel, whatever bytes strangers ring with."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import LiteralString

from psycopg import sql
from psycopg.pq import PGnotify

from creditsd.postgres.connections import Connection, translated, woken_by

# A server that has no UTF-8 for what it is to send says so as an error of whatever our session does next, and drops the
# rings that came with it. Its own letters it sends as they are; one of no encoding (SQL_ASCII) checks them by ours, and
# to latin-1 every byte is a letter. Of UTF-8 nothing is converted, and the driver does not know the last two.
_AS_THEY_ARE = {"SQL_ASCII": "LATIN1", "UTF8": "", "EUC_TW": "", "MULE_INTERNAL": ""}


class Channel:
    """What rings on a channel of a session, in bytes: the driver's own way ends at the first that are no text."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._heard: deque[bytes] = deque()
        connection.pgconn.notify_handler = self._take

    async def listen(self) -> None:
        """Begin to listen. Raises DatabaseUnavailable."""
        own = self._connection.info.parameter_status("server_encoding") or "UTF8"
        await self._say("SET client_encoding TO {}", _AS_THEY_ARE.get(own, own))
        await self._say("LISTEN {}", self._name)

    async def ignore(self) -> None:
        """Listen no more, and take letters as UTF-8 again. Raises DatabaseUnavailable."""
        await self._say("UNLISTEN {}", self._name)
        await self._say("SET client_encoding TO {}", "UTF8")

    def forget(self) -> None:
        """Forget what has rung and was not asked for by `rings`."""
        self._heard.clear()

    async def rings(self) -> AsyncIterator[bytes]:
        """Yield the payload of each ring until the connection ends. Raises DatabaseUnavailable."""
        arrived, pgconn = asyncio.Event(), self._connection.pgconn
        with woken_by(self._connection, arrived.set):
            while True:
                while self._heard:
                    yield self._heard.popleft()
                await arrived.wait()
                arrived.clear()
                with translated():
                    pgconn.consume_input()
                    while ring := pgconn.notifies():
                        self._take(ring)

    def _take(self, ring: PGnotify) -> None:
        self._heard.append(ring.extra)

    async def _say(self, statement: LiteralString, name: str) -> None:
        if name:
            with translated():
                await self._connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
