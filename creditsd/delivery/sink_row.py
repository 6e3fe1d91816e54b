"""A sink's row in the database: how far it has been told, whether it is to stand still, and what ails it."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import structlog

from creditsd.domain.owner import Owner
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, Pool, borrowed, row
from creditsd.postgres.encoding import storable
from creditsd.schema.owner import owner_of

log = structlog.get_logger()


class CursorMoved(Exception):  # noqa: N818  reads as the state it reports
    """Somebody else has set the sink's cursor, or deleted its row: what is under way does not follow it any more."""


class _Found(NamedTuple):
    """The row as the database returns it."""

    cursor: int
    paused: bool
    disabled_reason: str | None
    failing_seconds: float | None
    events_after: int


class SinkRow:
    """Saves the cursor by compare and set: one that somebody else has moved meanwhile is taken over, never overwritten.

    `cursor` may be ahead of what is saved by totals that have arrived; it passes what was refused only once that is
    stored.
    """

    def __init__(self, name: str, pool: Pool) -> None:
        self.name = name
        self.owner: Owner | None = None
        """The installation whose row it is; known once it is registered."""
        self._pool = pool
        self._registered = False
        self._certain = True  # whether what was saved last is known: its answer has come, and nobody else has led since
        self._saved: tuple[int, int | None, str | None] = (0, None, None)  # cursor, events_after, error
        self._saved_at = self._read_at = 0.0
        self._delivered = 0
        self._halt_told: str | None = None
        self.cursor = 0
        """The version up to which everything has arrived, or waits for another try."""
        self.events_after = 0
        """The version up to which everyone had been told what happened, when the row was read."""
        self.halted: str | None = None
        """Why nothing is to be delivered; None where it is."""
        self.disabled_reason: str | None = None
        self.failing_seconds: float | None = None
        """For how long nothing has arrived of what was tried; None where something has."""

    @property
    def halt_changed(self) -> bool:
        """Whether it is to stand still, or to go on, otherwise than when this was last asked."""
        before, self._halt_told = self._halt_told, self.halted
        return before != self.halted

    def say_halt(self) -> None:
        """Log that it is to stand still, or to go on."""
        if self.disabled_reason is not None:
            hint = f"once it is meant to go on: creditsd sinks enable {self.name}"
            log.error("publisher.disabled", sink=self.name, reason=self.disabled_reason, hint=hint)
        elif self.halted is not None:
            log.info("publisher.halted", sink=self.name, reason=self.halted)
        else:
            log.info("publisher.resumed", sink=self.name)

    @property
    def saved_seconds(self) -> float:
        """How long ago it was saved."""
        return asyncio.get_running_loop().time() - self._saved_at

    @property
    def read_seconds(self) -> float:
        """How long ago it was registered."""
        return asyncio.get_running_loop().time() - self._read_at

    async def register(self) -> bool:
        """Read the row, and make it for a new sink; return whether the cursor stands elsewhere than we left it."""
        async with borrowed(self._pool) as connection:
            found = await row(connection, sql_files.sql("queries/sink_registered"), {"name": self.name})
            if self.owner is None or not self._registered:
                self.owner = await owner_of(connection)
        assert found is not None
        self._registered, self._read_at = True, asyncio.get_running_loop().time()
        return self._follow(_Found(*found))

    async def disable(self, reason: str) -> None:
        """Have nothing delivered until a person says so."""
        async with borrowed(self._pool) as connection:
            asked = {"name": self.name, "reason": storable(connection, reason)}
            await row(connection, sql_files.sql("queries/sink_disabled"), asked)

    def note_delivered(self, number: int) -> None:
        """Count totals that have arrived; the next save adds them."""
        self._delivered += number

    def unsaved(self, events_after: int | None, error: str | None) -> bool:
        """Whether the row says something else than is known here."""
        return self._registered and self._saved != (self.cursor, events_after, error)

    async def save(self, events_after: int | None, error: str | None) -> None:
        """Save what is known here. Raises CursorMoved."""
        if not self._registered:
            return
        async with borrowed(self._pool) as connection:
            found = await self.save_on(connection, self.cursor, events_after, error, failing=error is not None)
        self.saved(found, self.cursor, events_after, error)

    async def save_on(
        self, connection: Connection, cursor: int, events_after: int | None, error: str | None, *, failing: bool
    ) -> _Found | None:
        """Save as part of a transaction; what it returns is for `saved`, once that has been committed."""
        self._certain = False
        found = await row(
            connection,
            sql_files.sql("queries/sink_saved"),
            {
                "name": self.name,
                "saved": self._saved[0],
                "cursor": cursor,
                "events_after": events_after,
                "delivered": self._delivered,
                "last_error": None if error is None else storable(connection, error),
                "failing": failing,
            },
        )
        return None if found is None else _Found(*found)

    def saved(self, found: _Found | None, cursor: int, events_after: int | None, error: str | None) -> None:
        """Take note of what has been committed. Raises CursorMoved."""
        self._delivered, self._saved_at = 0, asyncio.get_running_loop().time()
        if found is None:
            self._registered = False
            raise CursorMoved
        self.cursor, self._saved, self._certain = cursor, (cursor, events_after, error), True
        if self._follow(found):
            raise CursorMoved

    async def leave(self) -> None:
        """Note that nothing is delivered to the sink any more."""
        if self._registered:
            async with borrowed(self._pool) as connection:
                await row(connection, sql_files.sql("queries/sink_left"), {"name": self.name})

    def let_go(self) -> None:
        """Leave the row to whoever leads now."""
        self._registered = self._certain = False
        self.halted = None
        self._saved = (self._saved[0], None, None)

    def _follow(self, found: _Found) -> bool:
        """Do as the row says."""
        self.halted = "paused" if found.paused else None
        self.disabled_reason = found.disabled_reason
        if found.disabled_reason is not None:
            self.halted = f"disabled: {found.disabled_reason}"
        self.failing_seconds = found.failing_seconds
        moved = not self._certain or found.cursor != self._saved[0]
        self._certain = True
        if moved:
            self.cursor = found.cursor
            self.events_after = found.events_after
            self._saved = (found.cursor, *self._saved[1:])
        return moved
