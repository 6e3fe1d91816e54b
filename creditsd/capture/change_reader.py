"""Whose credits may differ: reads the changes no snapshot has shown before, and recomputes their users."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import structlog
from psycopg import errors

from creditsd.config.command import of_installation
from creditsd.config.policy import written
from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.domain.total import Total
from creditsd.postgres import sql_files
from creditsd.postgres.batches import Batch, attempted, recomputed
from creditsd.postgres.connections import Connection, flushed, row, rows
from creditsd.postgres.prepared import Prepared
from creditsd.postgres.session import schema_of

log = structlog.get_logger()

FEW = 4  # changes, as creditsd.drain_few has it: with more, setting everything up once is cheaper
_LONGEST_DETOUR = 64
_NEVER = "infinity"

# What a page hands on to the next of its pass: the snapshot that all of them read, and the number of the next one.
_NEW_PASS = {"upto": None, "pass_page": None}


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where reading goes on, and which server it goes on at."""

    resyncing: str | None
    resynced_after: str | None
    restarted: bool
    failed_over: bool
    newest: int
    highest: int  # no version above this one was given out, as far as the server knows
    timeline: int
    started_at: str
    system_identifier: str

    @property
    def coarse(self) -> bool:
        """Whether the server may not be asked for all that tells it from another one."""
        return self.timeline == 0 or self.system_identifier == "0"


class ChangeReader:
    """The reader. Its cursor is a snapshot: everything visible in it has been recomputed.

    A pass reads what is visible now and was not then; when it is through, what was visible now becomes the cursor. One
    of many pages lists its users first, on the connection, so that each is recomputed once. The cursor is saved now
    and then: reading twice is harmless.
    """

    def __init__(self, connection: Connection, policy: Mapping[str, str]) -> None:
        self._connection = connection
        self._policy = policy
        self._few = Prepared(connection, "few_drained", sql_files.sql("queries/few_drained"))
        self._snapshot = ""
        self._unsaved = False
        self._unpurged = True
        self._pass: dict[str, Any] = dict(_NEW_PASS)
        # The short way: not where it would keep no history, nor before so many drains, where it was not the place.
        self._keeps_history = policy["history_days"] != "0"
        self._until_few = 0
        self._detour = 1
        # What it believes, and the database checks: the nearer the truth, the less that is to read.
        self._newest = 0
        self._due_at = _NEVER

    async def resume(self, *, floor_version: int = 0) -> Resumption:
        """Load the saved cursor; the database itself decides what must be looked at again.

        Takes the highest version that is known to have been given out: a server that lost it gives none below.
        """
        self._pass = dict(_NEW_PASS)
        asked = {"policy": written(self._policy), "floor_version": floor_version}
        found = await row(self._connection, sql_files.sql("queries/resumed"), asked)
        if found is None:
            schema = schema_of(self._connection)
            raise SchemaError(f"the schema {schema} is incomplete: {of_installation('run `creditsd install`', schema)}")
        said = found[0]
        self._snapshot = said.pop("snapshot")
        self._unsaved, self._unpurged = False, True
        return Resumption(**said)

    async def drain(self, max_changes: int) -> Batch:
        """Read the next changes and recompute their users, at most max_changes of them.

        The page says `full` when more of this pass waits, `changes` and `users` read, `resyncing` (a cause or None) and
        `due_seconds` until time changes a total (None for never).
        """
        found = await self._drain_few()
        if found is not None:
            self._take(found.page)
            return found
        parameters = {"snapshot": self._snapshot, "max_changes": max_changes, **self._pass, **self._policy}
        try:
            found = await recomputed(self._connection, sql_files.sql("queries/drained"), parameters)
        except DatabaseUnavailable as error:
            if not isinstance(error.__cause__, errors.ConfigurationLimitExceeded):
                raise
            return await self._look_at_everyone(max_changes, str(error))
        if found.page["changes"] > FEW:
            self._until_few = max(self._until_few, 1)
        was_listed = self._pass["upto"] is not None
        self._take(found.page)
        if was_listed and self._pass["upto"] is None:
            await rows(self._connection, sql_files.sql("queries/pass_ended"))
        return found

    def _take(self, page: Mapping[str, Any]) -> None:
        """Go on after a page."""
        self._unsaved = self._unsaved or page["changes"] > 0
        if page["pass_page"] is not None:
            self._pass = {"upto": page["snapshot"], "pass_page": page["pass_page"]}
        else:
            self._snapshot = page["snapshot"]
            self._pass = dict(_NEW_PASS)

    async def _look_at_everyone(self, max_changes: int, reason: str) -> Batch:
        """Have everyone recomputed, where the server has not the room that the list of a long pass takes."""
        found = await row(self._connection, sql_files.sql("queries/pass_given_up"))
        assert found is not None
        log.warning("balances.recomputing_everyone", reason=reason)
        self._snapshot, self._unsaved, self._pass = found[0], True, dict(_NEW_PASS)
        return await self.drain(max_changes)

    async def _drain_few(self) -> Batch | None:
        """Drain the short way; None where it is not the place, and nothing was done."""
        if self._keeps_history or self._pass["upto"] is not None:
            return None
        if self._until_few > 0:
            self._until_few -= 1
            return None
        parameters = {"snapshot": self._snapshot, "newest": self._newest, "due_at": self._due_at, **self._policy}
        found = await attempted(self._few, parameters)
        if found is None or found[-1][0] is None:
            self._until_few, self._detour = self._detour, min(2 * self._detour, _LONGEST_DETOUR)
            return None
        self._detour = 1
        snapshot, changes, users, due_at, due_seconds, clock, *_ = found[-1]
        totals = [Total(*each[6:]) for each in found[:-1]]
        if totals:
            self._newest = totals[-1].version
        # Whoever is due is recomputed next, and that moves the timer.
        self._due_at = due_at if due_seconds is None or due_seconds > 0 else _NEVER
        page = {
            "snapshot": snapshot,
            "full": False,
            "pass_page": None,
            "changes": changes,
            "users": users,
            "resyncing": None,
            "due_seconds": due_seconds,
            "clock": clock,
        }
        return Batch(totals, page)

    @property
    def snapshot(self) -> str:
        """The cursor: everything visible in it has been recomputed."""
        return self._snapshot

    @property
    def unsaved(self) -> bool:
        """Whether changes have been read since the cursor was saved; where none were, the old one says the same."""
        return self._unsaved

    async def save(self, *, flush: bool = False) -> None:
        """Save the cursor: on the connection that stored the balances, so never earlier than what it covers.

        With `flush`, all of it is on the server's disk afterwards.
        """
        async with flushed(self._connection) if flush else nullcontext():
            await row(self._connection, sql_files.sql("queries/cursor_saved"), {"snapshot": self._snapshot})
        self._unsaved, self._unpurged = bool(self._pass["upto"]), True

    @property
    def unpurged(self) -> bool:
        """Whether a cursor has been saved since the last complete purge began."""
        return self._unpurged

    async def purge(
        self, connection: Connection, max_changes: int, position: tuple[Any, ...] | None
    ) -> tuple[Any, ...] | None:
        """Delete a step of what the saved cursor covers; return the position of the next step, None when there is none.

        Takes a connection of its own: nothing waits for it.
        """
        snapshot, xid, user_id = position or (None, None, None)
        self._unpurged = position is not None and self._unpurged
        parameters = {"snapshot": snapshot, "xid": xid, "user_id": user_id, "max_changes": max_changes}
        found = await row(connection, sql_files.sql("queries/purged"), parameters)
        assert found is not None
        snapshot, xid, user_id, _ = found
        return (snapshot, xid, user_id) if xid is not None else None
