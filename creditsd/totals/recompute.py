"""Users to totals where no change asked for it: everyone, whoever is due, whoever a crash may have taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from creditsd.postgres import sql_files
from creditsd.postgres.batches import Batch, recomputed
from creditsd.postgres.connections import Connection, row, rows


class Recomputer:
    """The other ways into recompute. All run on the leader's connection, so a deposed leader writes nothing."""

    def __init__(self, connection: Connection, policy: Mapping[str, str]) -> None:
        self._connection = connection
        self._policy = policy

    async def resync_next(self, max_users: int) -> Batch:
        """Recompute the next page of everyone; the page says `users`, `done` and `due_seconds`."""
        return await recomputed(
            self._connection, sql_files.sql("queries/resynced"), {"max_users": max_users, **self._policy}
        )

    async def recompute_due(self, max_users: int) -> Batch:
        """Recompute those whose time has come; the page says `users` and `due_seconds`."""
        return await recomputed(
            self._connection, sql_files.sql("queries/due_recomputed"), {"max_users": max_users, **self._policy}
        )

    async def recompute(self, user_ids: Sequence[str], *, cause: str, republish: bool) -> Batch:
        """Recompute certain users; with `republish` each gets a new version, changed or not."""
        return await recomputed(
            self._connection,
            sql_files.sql("queries/recomputed"),
            {
                "user_ids": list(dict.fromkeys(user_ids)),
                "cause": cause,
                "republish": republish,
                **self._policy,
            },
        )

    async def count_users(self) -> int:
        """Count the users, about: exactly where that is quick."""
        found = await row(self._connection, sql_files.sql("queries/users_estimated"))
        return int(found[0] or 0) if found is not None else 0

    async def recently_published(self, since_version: int, limit: int) -> list[str]:
        """List whoever was published after a version, at most `limit` users."""
        found = await rows(
            self._connection,
            sql_files.sql("queries/recently_published"),
            {"version": since_version, "limit": limit},
        )
        return [user_id for (user_id,) in found]

    async def begin_resync(self, cause: str, *, republish: bool = False) -> None:
        """Have everyone recomputed from the beginning; with `republish` each gets a new version, changed or not."""
        asked = {"cause": cause, "republish": republish}
        await row(self._connection, sql_files.sql("queries/resync_begun"), asked)

    async def settle(self, *, timeline: int, started_at: str) -> None:
        """Note the server that is led now: what a restart may have taken back has been published again."""
        await row(self._connection, sql_files.sql("queries/settled"), {"timeline": timeline, "started_at": started_at})
