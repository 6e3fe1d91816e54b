"""Compares what is stored of users with what their rows give now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal, NamedTuple

from creditsd.domain.errors import RowsError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, rows, summed


class Compared(NamedTuple):
    """What is stored of a user, whether it is other than the truth, and how many credits either says."""

    version: int | None
    drift: Literal["missing", "wrong"] | None
    stored_credits: Decimal | None
    true_credits: Decimal


class Comparison:
    """Asks on one connection, by one policy. Holds no lock, and changes nothing."""

    def __init__(self, connection: Connection, policy: Mapping[str, str]) -> None:
        self._connection = connection
        self._policy = policy

    async def users_after(self, after: str | None, limit: int) -> list[str]:
        """Return the next users after one, or the first, in the order of their ids."""
        asked = {"user_id": after, "limit": limit}
        return [user_id for (user_id,) in await rows(self._connection, sql_files.sql("queries/users_after"), asked)]

    async def compare(self, users: Sequence[str]) -> dict[str, Compared]:
        """Compare what is stored with the truth; without those whose rows cannot be summed up."""
        asked = {"user_ids": list(users), **self._policy}
        try:
            with summed(users[0] if len(users) == 1 else "one of several"):
                found = await rows(self._connection, sql_files.sql("queries/totals_compared"), asked)
        except RowsError:
            if len(users) == 1:
                return {}
            halves = (users[: len(users) // 2], users[len(users) // 2 :])
            return {user_id: each for half in halves for user_id, each in (await self.compare(half)).items()}
        return {user_id: Compared(*facts) for user_id, *facts in found}

    async def unread(self, users: Sequence[str]) -> set[str]:
        """Tell at whom the daemon has yet to look: a change not read, a time that has come, a resync not so far."""
        asked = {"user_ids": list(users)}
        return {user_id for (user_id,) in await rows(self._connection, sql_files.sql("queries/users_unread"), asked)}
