"""The lock K: held exclusively while the daemon sleeps, so that writers ring; writers who get it keep silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from psycopg import errors

from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, kept, translated

log = structlog.get_logger()


class SleepLock:
    """Takes and releases K, on a connection of its own: one that waits for a lock is deaf to notifications.

    `wanted` is what the daemon has decided; `held` is what the server has done about it so far.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = asyncio.Event()  # there is something to do, or the server has said something
        self.wanted = False
        self.held = False
        self.granted = False  # since the last drain began; who drains takes it back

    def ask(self) -> None:
        """Ask for K: from now on new writers ring; the grant waits for those that keep silent."""
        self.wanted = True
        self._turn.set()

    async def give_up(self) -> None:
        """Give K up, or the request for it: from now on writers keep silent. Raises DatabaseUnavailable."""
        if not self.wanted:
            return
        self.wanted = self.granted = False
        self._turn.set()
        log.debug("doorbell.woke", was_asleep=self.held)
        if not self.held:
            with translated():
                await self._connection.cancel_safe(timeout=5)

    async def keep(self, *, wake: Callable[[], None]) -> None:
        """Do what is wanted, until cancelled, and wake the daemon after each change.

        Raises DatabaseUnavailable as soon as the server ends the connection: K went with it, so writers keep silent.
        """
        while True:
            await self._next_turn()
            with translated():
                try:
                    await self._follow()
                except errors.QueryCanceled:
                    # By give_up, while we asked. K may have been granted in the same moment, and a session keeps it.
                    await self._release()
            if self.wanted != self.held:
                self._turn.set()
            wake()

    async def _follow(self) -> None:
        if self.wanted and not self.held:
            async with kept(self._connection):
                await self._run("queries/sleep_taken")
            self.held = self.granted = True
            log.debug("doorbell.slept")
        elif self.held and not self.wanted:
            await self._release()
        else:
            await self._connection.execute("")  # the server has said something: goodbye, mostly

    async def _release(self) -> None:
        async with kept(self._connection):  # it releases whatever the session holds
            await self._run("queries/sleep_released")
        self.held = False

    async def _next_turn(self) -> None:
        """Wait until K is wanted or unwanted, or the server speaks."""
        loop, descriptor = asyncio.get_running_loop(), self._connection.fileno()
        loop.add_reader(descriptor, self._turn.set)
        try:
            await self._turn.wait()
        finally:
            loop.remove_reader(descriptor)
        self._turn.clear()

    async def _run(self, name: str) -> None:
        """Run a statement whose answer says nothing more than that it has ended."""
        await self._connection.execute(sql_files.sql(name))
