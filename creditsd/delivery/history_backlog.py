"""Each step in order, for a sink that is not content with the newest total: read from history, one a user at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from creditsd.domain.total import Total
from creditsd.postgres import sql_files
from creditsd.postgres.batches import batch
from creditsd.postgres.connections import Pool, borrowed, row

log = structlog.get_logger()


class HistoryBacklog:
    """The steps after one sink's cursor. Where history does not reach back so far, tells, and begins where it does."""

    def __init__(self, sink: str, pool: Pool) -> None:
        self._sink = sink
        self._pool = pool
        self._told_of = -1

    async def after(self, version: int, limit: int) -> Sequence[Total]:
        """Return the next steps after a version, at most `limit`, in the order of versions."""
        async with borrowed(self._pool) as connection:
            found = await batch(connection, sql_files.sql("queries/steps_after"), {"version": version, "limit": limit})
        whole_after = found.page["whole_after"]
        if 0 < version < whole_after != self._told_of:  # a new sink has missed nothing
            await self._tell_of_missing(version, whole_after)
            self._told_of = whole_after
        return found.totals

    async def sample(self, version: int, cursor: int) -> Total | None:
        """Return the first step after the cursor of the user whose step is the next one after a version."""
        asked = {"version": version, "cursor": cursor}
        async with borrowed(self._pool) as connection:
            return next(iter((await batch(connection, sql_files.sql("queries/steps_sampled"), asked)).totals), None)

    async def _tell_of_missing(self, version: int, whole_after: int) -> None:
        bounds = {"version": version, "whole_after": whole_after}
        async with borrowed(self._pool) as connection:
            found = await row(connection, sql_files.sql("queries/steps_missed"), bounds)
        if found is None or not found[0]:
            return
        log.error(
            "publisher.steps_missed",
            sink=self._sink,
            users=found[0],
            after=_moment(version),
            until=_moment(whole_after),
            reason="the sink was away for longer than history goes back: of these users it is told what is kept, "
            "and the newest total",
            hint="set [history] days to more than its longest outage",
        )


def _moment(version: int) -> str | None:
    """Say when a version was made, about."""
    try:
        return datetime.fromtimestamp(version / 1_000_000, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return None
