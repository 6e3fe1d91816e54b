"""What one sink has yet to be told: totals handed over as they are stored, or pages of the table where it is behind."""

from __future__ import annotations

import contextlib
import random
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from creditsd.delivery.timings import Bounds
from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.domain.total import Total
from creditsd.postgres import sql_files
from creditsd.postgres.batches import batch
from creditsd.postgres.connections import Pool, borrowed


class StoredTotals(Protocol):
    """A table of totals that is read in the order of versions."""

    async def after(self, version: int, limit: int) -> Sequence[Total]:
        """Return the next totals after a version, at most `limit`; none where nothing more is stored now."""

    async def sample(self, version: int, cursor: int) -> Total | None:
        """Return what comes next, after the cursor, of the user whose total is the next one after a version."""


class NewestTotals:
    """The newest total of each user: the table `balances`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def after(self, version: int, limit: int) -> Sequence[Total]:
        """Return the next totals after a version, at most `limit`, in the order of versions."""
        asked = {"version": version, "limit": limit}
        async with borrowed(self._pool) as connection:
            return (await batch(connection, sql_files.sql("queries/balances_after"), asked)).totals

    async def sample(self, version: int, cursor: int) -> Total | None:  # noqa: ARG002  the protocol's signature
        """Return the next total after a version, of which each user has one."""
        return next(iter(await self.after(version, 1)), None)


class Backlog:
    """Returns what comes next after a cursor: without asking the table where everything since was handed over.

    A page that was read ahead may be older than what is stored by now, but leaves nobody out: whoever has changed
    meanwhile stands further on.
    """

    def __init__(self, stored: StoredTotals, page_size: int, bounds: Bounds) -> None:
        self._stored = stored
        self._page_size = page_size
        self._bounds = bounds
        self._fresh: deque[Sequence[Total]] = deque()
        self._fresh_size = 0
        self._ahead: Sequence[Total] = ()
        self._ahead_after: int | None = None
        self._complete = False  # whether what was taken last left nothing out that was stored by then
        self.newest = 0
        """The newest version there is, as far as it is known."""
        self.taken = 0
        """The version up to which totals have been returned, or found not to be there."""
        self.probe: Total | None = None
        """What has arrived before its turn, until the next `rewind`."""

    def offer(self, totals: Sequence[Total]) -> bool:
        """Take totals just stored, in order; return whether any of them is news. Never grows beyond its bound."""
        if not totals:
            return False
        follows = self.taken >= self.newest or bool(self._fresh)  # nothing lies between these and what is under way
        self.newest = max(self.newest, totals[-1].version)
        if totals[0].version <= self.taken:  # a page of the table had them before we were told
            totals = [each for each in totals if each.version > self.taken]
        if not totals:
            return False
        if follows and (not self._fresh or self._fresh_size + len(totals) <= self._bounds.fresh_totals):
            self._fresh.append(totals)
            self._fresh_size += len(totals)
        else:
            self._drop_fresh()
        return True

    @property
    def only(self) -> Sequence[Total]:
        """What was handed over, and is returned next, where nothing else was."""
        return self._fresh[0] if len(self._fresh) == 1 else ()

    async def next(self, cursor: int, *, probing: bool = False) -> Sequence[Total]:
        """Return what follows: what was handed over, or the page after the cursor; a larger one for a probe."""
        self._complete = True
        if self._fresh:
            totals = self._fresh.popleft()
            self._fresh_size -= len(totals)
            self.taken = totals[-1].version
            return totals
        newest = self.newest  # as it is now: what is stored while the page is read may not be in it
        if cursor >= newest:
            return ()
        size = max(self._page_size, self._bounds.probed_from if probing else 0)
        totals = await self._page(cursor, size)
        self._complete = len(totals) < size
        self.taken = totals[-1].version if totals else newest
        return totals

    @property
    def has_next_page(self) -> bool:
        """Whether what was returned last was a full page, after which there may be another."""
        return self.taken == self._ahead_after

    async def read_ahead(self) -> None:
        """Read the page after the last; where that fails, whoever wants it will see."""
        if self._ahead_after is not None:
            with contextlib.suppress(DatabaseUnavailable, SchemaError):
                self._ahead = await self._stored.after(self._ahead_after, self._page_size)

    @property
    def page_was_full(self) -> bool:
        """Whether more is stored than what was returned last."""
        return not self._complete

    async def beyond(self, cursor: int, *, newest: bool) -> Total | None:
        """Return a total that lies behind what was returned last: the newest there is, or one from anywhere."""
        if self.taken >= self.newest:
            return None
        version = self.newest - 1 if newest else random.randrange(self.taken, self.newest)
        return await self._stored.sample(version, cursor)

    def has_proof(self, cursor: int) -> bool:
        """Whether a probe has arrived that still lies ahead: whoever is refused before it has themselves to blame."""
        return self.probe is not None and cursor < self.probe.version

    def caught_up(self, cursor: int) -> bool:
        """Whether everything that was stored at the last look lies behind the cursor."""
        return cursor >= self.newest or (self._complete and cursor >= self.taken)

    def rewind(self, cursor: int) -> None:
        """Go back to the cursor: drop what was handed over or read ahead, for the table has it."""
        self._drop_fresh()
        self._ahead, self._ahead_after = (), None
        self.probe = None
        self.taken = cursor
        self._complete = False

    async def _page(self, cursor: int, size: int) -> Sequence[Total]:
        totals = self._ahead if cursor == self._ahead_after and size == self._page_size else ()
        totals = totals or await self._stored.after(cursor, size)  # what was not there then may be now
        self._ahead, self._ahead_after = (), totals[-1].version if len(totals) == size else None
        return totals

    def _drop_fresh(self) -> None:
        self._fresh.clear()
        self._fresh_size = 0
