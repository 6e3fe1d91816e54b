"""Notices, while a daemon leads, that changes of the table could pass by unseen; and that they no longer can."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from creditsd.config.command import of_installation
from creditsd.config.settings import Settings
from creditsd.domain.errors import LockNotFree, SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row, translated
from creditsd.postgres.session import limit_lock_waits
from creditsd.schema import grants
from creditsd.schema.installation import Divergence, compare

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Timings:
    """How often the table is looked at, and how often while something of it must be mended.

    `guard_seconds` is how long a look waits for our own tables, and whoever reads them behind it.
    """

    look_seconds: float = 30.0
    mending_seconds: float = 5.0
    guard_seconds: float = 0.1


class TableWatch:
    """Compares a fingerprint of the table with the one noted when everyone was last recomputed.

    Only where it is a new one, or something must be mended, is everything compared in full.
    """

    def __init__(self, settings: Settings, timings: Timings | None = None) -> None:
        self._settings = settings
        self._timings = timings or Timings()
        self._next_look = 0.0
        self._seen = ""
        self._divergences: list[Divergence] = []

    @property
    def divergences(self) -> Sequence[Divergence]:
        """In what the database differed from what is installed, at the last look; each may hide changes."""
        return self._divergences

    @property
    def due_seconds(self) -> float:
        """In how many seconds the next look is due."""
        return max(0.0, self._next_look - time.monotonic())

    def begin(self) -> None:
        """Look in full at the next opportunity: a leadership begins, and nothing is known of what went before it."""
        self._next_look = 0.0
        self._seen = ""

    def end(self) -> None:
        """Say no more of the table: whoever leads next does."""
        self._divergences = []

    async def look(self, connection: Connection) -> bool:
        """Return whether the table has changed since everyone was last recomputed, and remember what must be mended.

        Raises SchemaError where nothing of ours is there any more, DatabaseUnavailable.
        """
        found = await row(connection, sql_files.sql("queries/fingerprint"))
        if found is None:
            schema = self._settings.schema
            raise SchemaError(f"the schema {schema} is incomplete: {of_installation('run `creditsd install`', schema)}")
        fingerprint, changed = found
        if fingerprint != self._seen or self._divergences:
            self._heed((await compare(connection, self._settings)).divergences)
            self._seen = fingerprint
        await self._guard(connection)
        pause = self._timings.mending_seconds if self._divergences else self._timings.look_seconds
        self._next_look = time.monotonic() + pause
        return bool(changed)

    async def _guard(self, connection: Connection) -> None:
        """Have row level security turned on where somebody was let in since; nobody waits for what holds the tables."""
        try:
            with translated():
                async with connection.transaction():
                    await limit_lock_waits(connection, self._timings.guard_seconds)
                    let_in = await grants.guard(connection)
        except LockNotFree:
            ours = self._settings.schema
            hint = f"end what holds {ours}.balances or {ours}.history, or revoke what was granted on them"
            log.warning("schema.rows_unguarded", reason="somebody may read totals of others", hint=hint)
            return
        if let_in:
            log.warning("schema.rows_guarded", let_in=let_in, reason="they may read totals: each user sees their own")

    def _heed(self, divergences: list[Divergence]) -> None:
        """Say once of each divergence what mends it, and once that all is mended."""
        for each in divergences:
            if each not in self._divergences:
                log.error("schema.diverged", problem=each.problem, hint=each.hint or None)
        if self._divergences and not divergences:
            log.info("schema.mended")
        self._divergences = divergences
