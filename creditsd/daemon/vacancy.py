"""Rings for whoever stands by when a leader ends. One that dies rings for nobody: that is found out by asking."""

from __future__ import annotations

import contextlib

from creditsd.domain.errors import DatabaseUnavailable
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, kept, row
from creditsd.postgres.listening import Channel
from creditsd.postgres.session import schema_of


class Vacancy:
    """What one session hears and says of it: a standby listens, and a leader announces it."""

    def __init__(self, session: Connection) -> None:
        self._session = session
        self._channel = Channel(session, f"{schema_of(session)}_lead")
        self._listens = False

    async def listen(self) -> bool:
        """Begin to listen; True where that is new, and it may have been announced just before: ask once more."""
        if self._listens:
            self._channel.forget()  # it has woken us, whatever it was
            return False
        async with kept(self._session):
            await self._channel.listen()
        self._listens = True
        return True

    async def ignore(self) -> None:
        """Listen no more: whoever leads is woken by the doorbell alone."""
        if self._listens:
            await self._channel.ignore()
            self._listens = False

    async def announce(self) -> None:
        """Give the lead up, and ring. A session that is gone has given it up by that."""
        with contextlib.suppress(DatabaseUnavailable):
            await row(self._session, sql_files.sql("queries/leadership_returned"))
