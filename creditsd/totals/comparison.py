"""Compares what is stored of users with what their rows give now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from creditsd.domain.errors import RowsError
from creditsd.domain.user_id import LONGEST_BYTES
from creditsd.postgres import sql_files
from creditsd.postgres.batches import summed
from creditsd.postgres.connections import Connection, rows


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
        """Compare what is stored with the truth; without those that are set aside: nothing can be kept of them."""
        found = await self._asked("queries/totals_compared", users)
        return {user_id: Compared(*facts) for user_id, *facts in found}

    async def drifted(self, users: Sequence[str]) -> dict[str, str]:
        """Tell whose stored total is not the truth though no news is on its way, and whether it is missing or wrong."""
        return dict(await self._asked("queries/users_drifted", users))

    async def unread(self, users: Sequence[str]) -> set[str]:
        """Tell at whom the daemon has yet to look: a change not read, a time that has come, a resync not so far."""
        asked = {"user_ids": list(users)}
        return {user_id for (user_id,) in await rows(self._connection, sql_files.sql("queries/users_unread"), asked)}

    async def unrepaired(self, users: Collection[str]) -> set[str]:
        """Tell whom the daemon was asked to tell of again, and has not."""
        asked = {"user_ids": list(users)}
        return {user_id for (user_id,) in await rows(self._connection, sql_files.sql("queries/repairs_waiting"), asked)}

    async def _asked(self, query: str, users: Sequence[str]) -> list[Any]:
        """Ask of users whose rows can be summed up; where a page raises an error, of its halves."""
        able = [user_id for user_id in users if len(user_id.encode()) <= LONGEST_BYTES]
        try:
            with summed(able[0] if len(able) == 1 else "one of several"):
                return await rows(self._connection, sql_files.sql(query), {"user_ids": able, **self._policy})
        except RowsError:
            if len(able) == 1:
                return []
            half = len(able) // 2
            return [each for part in (able[:half], able[half:]) for each in await self._asked(query, part)]
