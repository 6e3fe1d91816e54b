"""What a sink that is behind is told: stored totals after a version, a page at a time, the next one read ahead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from creditsd.delivery.history_backlog import HistoryBacklog
from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.domain.total import Total
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Pool, batch, borrowed


class Backlog:
    """Reads the table or, for a sink that is told each, the steps.

    A page read ahead may be older than what is stored by now, but leaves nobody out: whoever has changed meanwhile
    stands further on.
    """

    def __init__(self, pool: Pool, size: int, history: HistoryBacklog | None) -> None:
        self._pool = pool
        self._size = size
        self._history = history
        self._next: int | None = None
        self._ahead: Sequence[Total] = ()

    def ended_full(self, version: int) -> bool:
        """Whether a version is the end of the last page, and that page was full."""
        return version == self._next

    async def after(self, version: int) -> Sequence[Total]:
        """Return the next totals after a version, in the order of versions; none where nothing more is stored now."""
        totals = self._ahead if version == self._next else ()
        totals = totals or await self._read(version)  # what was not there then may be now
        self._ahead, self._next = (), totals[-1].version if len(totals) == self._size else None
        return totals

    async def read_ahead(self) -> None:
        """Read the page after the last; where that fails, whoever wants it will see."""
        if self._next is not None:
            with contextlib.suppress(DatabaseUnavailable, SchemaError):
                self._ahead = await self._read(self._next)

    def forget(self) -> None:
        """Let go of what was read ahead: by the time it is wanted it may be old."""
        self._ahead, self._next = (), None

    async def _read(self, version: int) -> Sequence[Total]:
        if self._history is not None:
            return await self._history.after(version, self._size)
        asked = {"version": version, "limit": self._size}
        async with borrowed(self._pool) as connection:
            return (await batch(connection, sql_files.sql("queries/balances_after"), asked)).totals


def pieces(totals: Sequence[Total], size: int) -> Iterator[Sequence[Total]]:
    """Split totals, in which each user stands once, into runs of at most `size`."""
    return (totals[start : start + size] for start in range(0, len(totals), size))
