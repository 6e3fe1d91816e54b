"""Hears the bell, and proves it: LISTEN through a transaction pooler succeeds and delivers nothing, silently."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import structlog

from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, kept, row
from creditsd.postgres.listening import Channel
from creditsd.postgres.session import schema_of

log = structlog.get_logger()

POOLED = "LISTEN needs a direct connection: set CREDITSD_LISTEN_DSN to one that goes through no pooler"


class Listener:
    """The connection that listens. `proven` says whether the newest ring of our own came through it in time."""

    def __init__(self, connection: Connection, *, told: Callable[[str], None] = lambda _: None) -> None:
        self._connection = connection
        self._channel = Channel(connection, schema_of(connection))
        self._told = told
        self._proof = ""
        self._lost = False
        self.proven = False
        self.deadline: float | None = None
        """Until when our own ring must have come; None while none is under way."""

    async def listen(self) -> None:
        """Begin to listen; before the first proof, which would be lost otherwise. Raises DatabaseUnavailable."""
        async with kept(self._connection):
            await self._channel.listen()
            await row(self._connection, sql_files.sql("queries/listener_marked"))

    async def hear(self, *, wake: Callable[[], None]) -> None:
        """Wake the daemon at each ring until the connection ends, and pass on what is no ring.

        Raises DatabaseUnavailable.
        """
        async for heard in self._channel.rings():
            payload = heard.decode(errors="replace")
            if not payload:
                wake()
            elif payload == self._proof:
                if self._pass():
                    wake()  # from polling to the bell
            else:
                self._told(payload)

    def begin_proof(self, deadline: float) -> str:
        """Return the payload of a ring of our own, which must have come by a moment of the monotonic clock."""
        self._proof = f"proof {secrets.token_hex(8)}"
        self.deadline = deadline
        return self._proof

    def check(self, now: float) -> None:
        """Take the bell for lost where our own ring has not come in time."""
        if self.deadline is not None and now >= self.deadline:
            self.lose(POOLED)

    def lose(self, hint: str) -> None:
        """Take the bell for lost, until a ring of our own comes again; said once."""
        self._proof, self.deadline = "", None
        self.proven = False
        if not self._lost:
            log.error("doorbell.lost", hint=hint)
        self._lost = True

    def _pass(self) -> bool:
        """Note that our own ring has come; True where the bell was not proven before."""
        anew, self.proven, self._lost = not self.proven, True, False
        self._proof, self.deadline = "", None
        if anew:
            log.info("doorbell.proven")
        return anew
