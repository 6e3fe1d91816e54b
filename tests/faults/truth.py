"""What must be in Valkey, judged from the table alone, and what has passed through it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.beside import beside
from tests.conftest import PATIENCE_SECONDS, eventually, settled
from tests.servers import Valkey

# The rules once more, written apart from the product's own. A user who has lost every row has nothing.
TRUTH = """
WITH judged AS (
    SELECT
        user_id, credits, plan_type,
        coalesce(status = 'active', false) AND coalesce(expires_at > clock_timestamp(), true)
        AND NOT coalesce(status = 'active' AND plan_type = 'one_time' AND credits = 0, false) AS counts
    FROM public.user_credits
    WHERE user_id IS NOT NULL
)
SELECT
    user_id::text,
    coalesce(sum(credits) FILTER (WHERE counts), 0)::int,
    CASE WHEN bool_or(counts) THEN 'active' ELSE 'expired' END,
    NOT bool_or(counts AND coalesce(plan_type = 'subscription', false))
FROM judged
GROUP BY user_id
"""
NOTHING = (0, "none", True)

Told = tuple[int, str, bool]


def client(valkey: Valkey) -> redis.Redis:
    """Connect without trying again: a fault shall be seen."""
    return redis.Redis(host=valkey.host, port=valkey.port, retry=Retry(NoBackoff(), 0))


async def truth(dsn: str) -> dict[str, Told]:
    """Compute everyone's total from the rows as they are now."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute(TRUTH)
        return {user: (amount, status, buys) async for user, amount, status, buys in cursor}


async def held(valkey: Valkey) -> dict[str, dict[str, Any]]:
    """Read every total Valkey holds, by user."""
    async with client(valkey) as link:
        keys = [key async for key in link.scan_iter("credits:*", count=1000)]
        values = await link.mget(keys) if keys else []
    documents = [orjson.loads(value) for value in values if value is not None]
    return {document["user_id"]: document for document in documents}


async def differences(dsn: str, valkey: Valkey) -> dict[str, tuple[Told, Told | None]]:
    """List who is told something else than the truth: (the truth, what Valkey says)."""
    return await wrong_among(dsn, await held(valkey))


async def wrong_among(dsn: str, totals: Mapping[str, dict[str, Any]]) -> dict[str, tuple[Told, Told | None]]:
    """List who has another total here, by user, than the truth: (the truth, what is here)."""
    told = {
        user: (document["credits"], document["membershipStatus"], document["canBuy"])
        for user, document in totals.items()
    }
    true = await truth(dsn)
    users = true.keys() | told.keys()
    return {
        user: (true.get(user, NOTHING), told.get(user)) for user in users if told.get(user) != true.get(user, NOTHING)
    }


async def wrong_at_last(
    dsn: str, valkey: Valkey, seconds: float = PATIENCE_SECONDS
) -> dict[str, tuple[Told, Told | None]]:
    """Compare until nobody is told anything wrong, and return the last comparison: only then may the daemon end.

    Plans end by time, too, and nobody but a running daemon says so: a comparison after its end finds what ended since.
    """
    return await settled(lambda: differences(dsn, valkey), lambda found: not found, seconds)


async def until_true(dsn: str, valkey: Valkey, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until everyone is told the truth."""
    await eventually(lambda: differences(dsn, valkey), lambda found: not found, seconds)


@dataclass(slots=True)
class Witness:
    """Hears everything that is published, and notes every user whose version did not grow."""

    newest: dict[str, int] = field(default_factory=dict)
    heard: int = 0
    backwards: list[tuple[str, int, int]] = field(default_factory=list)

    def hear(self, document: dict[str, Any]) -> None:
        """Take note of one message."""
        user, version = document["user_id"], document["version"]
        before = self.newest.get(user, 0)
        self.heard += 1
        if version <= before:
            self.backwards.append((user, before, version))
        self.newest[user] = max(before, version)

    async def agrees(self, valkey: Valkey) -> bool:
        """Whether the keys come to stand at the highest version that was ever heard of; a message may be on its way."""

        async def versions() -> dict[str, int]:
            return {user: document["version"] for user, document in (await held(valkey)).items()}

        return await settled(versions, self._knows) == self.newest

    def _knows(self, versions: Mapping[str, int]) -> bool:
        return versions == self.newest


@contextlib.asynccontextmanager
async def witnessing(valkey: Valkey) -> AsyncIterator[Witness]:
    """Listen to every channel for as long as the block lasts."""
    witness = Witness()
    async with client(valkey) as link, link.pubsub() as channels:
        await channels.psubscribe("credits:*")
        await channels.get_message(timeout=60)  # that we are subscribed

        async def listen() -> None:
            async for message in channels.listen():
                witness.hear(orjson.loads(message["data"]))

        async with beside(listen()):
            yield witness
