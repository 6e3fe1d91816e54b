"""One user's total into Valkey: the work of a job, the same for every queue written in Python."""

from __future__ import annotations

from typing import Any

import orjson
import redis.asyncio as redis
from psycopg_pool import AsyncConnectionPool

from bench.peers import TOTAL


class Totals:
    """A pool of prepared connections, and Valkey."""

    def __init__(self, dsn: str, url: str, size: int) -> None:
        self._pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            dsn, min_size=size, max_size=size, kwargs={"autocommit": True}, open=False
        )
        self._client = redis.Redis.from_url(url)

    async def open(self) -> None:
        await self._pool.open(wait=True)

    async def publish(self, user_id: str) -> None:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(TOTAL, (user_id,), prepare=True)
            row = await cursor.fetchone()
        document = orjson.dumps({"user_id": user_id, "credits": row[0] if row is not None else 0})
        name = f"credits:{user_id}"
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.set(name, document)
            pipeline.publish(name, document)
            await pipeline.execute()
