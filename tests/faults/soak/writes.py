"""What applications do to their table: statements, and the transactions they come in."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg

from tests.faults.load import STATEMENTS
from tests.faults.soak.ledger import Connection, Reading, read

MORE = (
    (
        2,
        "UPDATE public.user_credits SET credits = credits - 500 WHERE user_id = %(one)s AND plan_type = 'subscription'",
    ),
    (
        2,
        """
        INSERT INTO public.user_credits (user_id, credits, status, plan_type, membership, subscription_id)
        VALUES (%(one)s, %(amount)s, 'active', 'subscription', 'Pro', 'sub_' || %(amount)s::text)
        """,
    ),
    (1, "UPDATE public.user_credits SET expires_at = now() - interval '1 hour' WHERE user_id = %(one)s"),
    (
        1,
        """
        WITH gone AS (DELETE FROM public.user_credits WHERE user_id = %(one)s RETURNING *)
        INSERT INTO public.user_credits (user_id, credits, status, plan_type, membership)
        SELECT %(other)s::uuid, credits, status, plan_type, membership FROM gone
        """,
    ),
)
ALL = STATEMENTS + MORE

MERGE = """
MERGE INTO public.user_credits AS held
USING (SELECT %(one)s::uuid AS user_id, %(amount)s::integer AS amount) AS bought
ON held.user_id = bought.user_id AND held.plan_type = 'subscription'
WHEN MATCHED AND held.credits > 400 THEN DELETE
WHEN MATCHED THEN UPDATE SET credits = held.credits + bought.amount
WHEN NOT MATCHED THEN INSERT (user_id, credits, status, plan_type)
VALUES (bought.user_id, bought.amount, 'active', 'subscription')
"""
UPSERT = """
INSERT INTO public.user_credits (id, user_id, credits, status, plan_type)
SELECT id, user_id, credits, status, plan_type FROM public.user_credits WHERE user_id = %(one)s
ON CONFLICT (id, user_id) DO UPDATE SET credits = EXCLUDED.credits + %(amount)s
"""

_numbers = itertools.count(1)


@dataclass(slots=True)
class Transaction:
    """One transaction on some users: `reading` is how it leaves them, from before its commit on."""

    connection: Connection
    dice: random.Random
    users: Sequence[str]
    reading: Reading = field(default_factory=dict)
    prepared: str = ""

    async def statement(self) -> None:
        """Run one statement, drawn by weight."""
        ((_, text),) = self.dice.choices(ALL, [weight for weight, _ in ALL])
        await self.run(text)

    async def run(self, text: str) -> None:
        """Run a statement on the users."""
        values = {"one": self.users[0], "other": self.users[-1], "amount": self.dice.randint(0, 300)}
        await self.connection.execute(text.encode(), values)

    @asynccontextmanager
    async def begun(self, mode: str = "") -> AsyncIterator[None]:
        """Begin, and commit with the users read; roll back where the block raises Rollback.

        By a snapshot of its own a transaction reads nothing of what was in a table that has been rewritten since: then
        only what is read after it is the truth.
        """
        await self.connection.execute(f"BEGIN {mode}".encode())
        try:
            yield
        except psycopg.Rollback:
            await self.connection.execute("ROLLBACK")
            return
        self.reading = await read(self.connection, self.users)
        await self.connection.execute("COMMIT")
        if mode:
            self.reading = await read(self.connection, self.users)


async def plain(transaction: Transaction) -> None:
    async with transaction.begun():
        await transaction.statement()


async def several(transaction: Transaction) -> None:
    async with transaction.begun():
        for _ in range(transaction.dice.randint(2, 5)):
            await transaction.statement()


async def savepoint(transaction: Transaction) -> None:
    async with transaction.begun():
        await transaction.statement()
        await transaction.connection.execute("SAVEPOINT before")
        await transaction.statement()
        await transaction.connection.execute("ROLLBACK TO before")
        await transaction.statement()


async def rolled_back(transaction: Transaction) -> None:
    async with transaction.begun():
        await transaction.statement()
        raise psycopg.Rollback


async def repeatable_read(transaction: Transaction) -> None:
    async with transaction.begun("ISOLATION LEVEL REPEATABLE READ"):
        await transaction.statement()


async def serializable(transaction: Transaction) -> None:
    async with transaction.begun("ISOLATION LEVEL SERIALIZABLE"):
        await transaction.statement()


async def thoughtful(transaction: Transaction) -> None:
    async with transaction.begun():
        await transaction.statement()
        await asyncio.sleep(transaction.dice.uniform(0.05, 0.4))
        await transaction.statement()


async def merge(transaction: Transaction) -> None:
    async with transaction.begun():
        await transaction.run(MERGE)


async def upsert(transaction: Transaction) -> None:
    async with transaction.begun():
        await transaction.run(UPSERT)


async def prepared(transaction: Transaction) -> None:
    """Commit in two phases; where the connection is lost between them, somebody has to see to what is prepared."""
    connection, name = transaction.connection, f"soak-{next(_numbers)}"
    await connection.execute("BEGIN")
    await transaction.statement()
    transaction.reading = await read(connection, transaction.users)
    transaction.prepared = name
    await connection.execute(f"PREPARE TRANSACTION '{name}'".encode())
    await asyncio.sleep(transaction.dice.uniform(0.0, 0.1))
    await connection.execute(f"COMMIT PREPARED '{name}'".encode())
    transaction.prepared = ""


async def copied(transaction: Transaction) -> None:
    async with transaction.begun():
        cursor = transaction.connection.cursor()
        async with cursor.copy("COPY public.user_credits (user_id, credits, status, plan_type) FROM STDIN") as copy:
            for user in transaction.users:
                await copy.write_row((user, transaction.dice.randint(1, 90), "active", "one_time"))


async def everyone(transaction: Transaction) -> None:
    async with transaction.begun():
        await transaction.run("UPDATE public.user_credits SET credits = credits + 1 WHERE status = 'active'")


async def thinned(transaction: Transaction) -> None:
    async with transaction.begun():
        await transaction.run("DELETE FROM public.user_credits WHERE id %% 3 = 0")


class Shape(NamedTuple):
    """A kind of transaction: how often, how many users it may touch (0: all), and what it needs."""

    weight: float
    users: int
    write: Callable[[Transaction], Awaitable[None]]


SHAPES: dict[str, Shape] = {
    "one statement": Shape(60, 2, plain),
    "several statements": Shape(8, 2, several),
    "savepoint rolled back": Shape(8, 2, savepoint),
    "rolled back": Shape(4, 2, rolled_back),
    "repeatable read": Shape(5, 2, repeatable_read),
    "serializable": Shape(5, 2, serializable),
    "thinks in between": Shape(3, 2, thoughtful),
    "merge": Shape(4, 1, merge),
    "upsert": Shape(4, 1, upsert),
    "two phases": Shape(4, 2, prepared),
    "copy": Shape(2, 8, copied),
    "bulk of everyone": Shape(0.3, 0, everyone),
    "deletes a third": Shape(0.1, 0, thinned),
}
