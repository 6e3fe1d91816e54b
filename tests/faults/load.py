"""An application that never stops writing: every kind of change there is, and a new connection when one is lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from uuid import UUID

import psycopg

from tests.conftest import eventually

# Weighted as applications write: mostly spending, now and then everything else. A user who has no row is left alone.
STATEMENTS = (
    (12, "UPDATE public.user_credits SET credits = credits - 1 WHERE user_id = %(one)s"),
    (6, "UPDATE public.user_credits SET credits = %(amount)s WHERE user_id = %(one)s AND plan_type = 'subscription'"),
    (
        4,
        """
        INSERT INTO public.user_credits (user_id, credits, status, plan_type, membership)
        VALUES (%(one)s, %(amount)s, 'active', 'one_time', 'Pack')
        """,
    ),
    (2, "UPDATE public.user_credits SET status = 'cancelled' WHERE user_id = %(one)s AND plan_type = 'subscription'"),
    (2, "UPDATE public.user_credits SET status = 'active' WHERE user_id = %(one)s AND plan_type = 'subscription'"),
    (2, "UPDATE public.user_credits SET credits = 0 WHERE user_id = %(one)s AND plan_type = 'one_time'"),
    (2, "UPDATE public.user_credits SET expires_at = now() + interval '700 ms' WHERE user_id = %(one)s"),
    (1, "UPDATE public.user_credits SET expires_at = NULL, membership = 'Pro' WHERE user_id = %(one)s"),
    (
        1,
        """
        UPDATE public.user_credits SET user_id = %(other)s
        WHERE id = (SELECT min(id) FROM public.user_credits WHERE user_id = %(one)s)
        """,
    ),
    (1, "DELETE FROM public.user_credits WHERE user_id = %(one)s AND status = 'expired'"),
    (1, "DELETE FROM public.user_credits WHERE user_id = %(one)s"),
    (1, "UPDATE public.user_credits SET credits = credits + 5 WHERE user_id IN (%(one)s, %(other)s)"),
    (1, "INSERT INTO public.user_credits (user_id, credits, status) VALUES (NULL, 7, 'active'), (%(one)s, NULL, NULL)"),
)

FILL = """
INSERT INTO public.user_credits (user_id, credits, status, plan_type, membership, subscription_id, expires_at)
SELECT
    ('00000000-0000-0000-0000-' || lpad((1 + n % %(users)s)::text, 12, '0'))::uuid,
    n % 500, 'active',
    CASE WHEN n % 3 = 0 THEN 'subscription' ELSE 'one_time' END,
    CASE WHEN n % 3 = 0 THEN 'Pro' ELSE 'Pack' END,
    CASE WHEN n % 3 = 0 THEN 'sub_' || n END,
    CASE WHEN n % 7 = 0 THEN now() + interval '1 hour' END
FROM generate_series(1, %(users)s * 2) AS n
"""


def user(number: int) -> str:
    """The id of the user of a number, as `fill` makes them."""
    return str(UUID(int=int(str(number), 16)))


def fill(dsn: str, users: int) -> None:
    """Give so many users two rows each."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(FILL.replace("%(users)s", str(users)).encode())


@dataclass(slots=True)
class Load:
    """Clients that write without a pause from the beginning of the block to its end.

    With users of their own each they never wait for one another: whatever fails, and each wait, is somebody else's.
    """

    dsn: str
    users: int
    clients: int = 4
    pause_seconds: float = 0.0
    asynchronous: bool = False
    users_of_their_own: bool = False
    written: int = 0
    interrupted: int = 0
    failures: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(self.clients)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        await asyncio.gather(*self._tasks)

    def end(self) -> None:
        """Let each client write no more after what it is at."""
        self._ending.set()

    async def count(self) -> int:
        """How many transactions have been committed so far."""
        return self.written

    async def until_written(self, more: int) -> None:
        """Wait until so many more transactions have been committed."""
        goal = self.written + more
        await eventually(self.count, lambda count: count >= goal)

    async def _write(self, client: int) -> None:
        dice = random.Random(client)
        users = range(1 + client, self.users + 1, self.clients) if self.users_of_their_own else range(1, self.users + 1)
        while not self._ending.is_set():
            try:
                async with self._connected() as connection:
                    while not self._ending.is_set():
                        began = time.monotonic()
                        await self._transaction(connection, dice, users)
                        self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
                        self.written += 1
                        await asyncio.sleep(self.pause_seconds)
            except (
                psycopg.Error,
                psycopg.Rollback,
            ) as error:  # the latter where none could be rolled back
                self.interrupted += 1
                self.failures.append(repr(error))
                await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[psycopg.AsyncConnection[tuple[object, ...]]]:
        connection = await psycopg.AsyncConnection.connect(self.dsn, autocommit=True, connect_timeout=5)
        try:
            if self.asynchronous:
                await connection.execute("SET synchronous_commit = off")
            yield connection
        finally:
            await connection.close()

    async def _transaction(
        self, connection: psycopg.AsyncConnection[tuple[object, ...]], dice: random.Random, users: range
    ) -> None:
        """Write one statement, or several with a savepoint that is rolled back. A deadlock is one of the faults."""
        shape = dice.random()
        if shape < 0.8:
            await self._statement(connection, dice, users)
            return
        async with connection.transaction():
            await self._statement(connection, dice, users)
            async with connection.transaction(force_rollback=True):
                await self._statement(connection, dice, users)
            if shape > 0.95:
                raise psycopg.Rollback

    async def _statement(
        self, connection: psycopg.AsyncConnection[tuple[object, ...]], dice: random.Random, users: range
    ) -> None:
        (statement,) = dice.choices([text for _, text in STATEMENTS], [weight for weight, _ in STATEMENTS])
        values = {
            "one": user(dice.choice(users)),
            "other": user(dice.choice(users)),
            "amount": dice.randint(0, 300),
        }
        await connection.execute(statement.encode(), values)
