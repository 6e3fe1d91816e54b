"""What an application and its migrations do to the table."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from functools import partial

import psycopg

from tests.faults.soak.fault import Fault
from tests.faults.soak.ledger import read
from tests.faults.soak.world import Shape, World

FILL = """
INSERT INTO public.user_credits (user_id, credits, status, plan_type, membership)
SELECT unnest(ARRAY[{}]::uuid[]), 50, 'active', 'one_time', 'Pack'
"""
BONUS = "UPDATE public.user_credits SET credits = credits + 7 WHERE status = 'active' AND id % 2 = 0"


async def _ddl(world: World, _: random.Random, *, statements: Sequence[str]) -> None:
    """Alter the table, in a hurry as one should: for a lock that is not free, again."""
    with world.application.excusing("the table is altered"):
        async with world.connected("migration") as connection:
            await connection.execute("SET lock_timeout = '500ms'")
            for statement in statements:
                await _in_the_end(connection, statement)


async def _in_the_end(connection: psycopg.AsyncConnection[tuple[object, ...]], statement: str) -> None:
    for _ in range(100):
        try:
            await connection.execute(statement.encode())
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            await asyncio.sleep(0.05)
        else:
            return


async def _everyone(world: World, statements: Sequence[str]) -> None:
    """Run statements in one transaction that may change everyone, and put down how it left them."""
    with world.application.excusing("the table is altered"):
        async with world.ledger.holding() as users, world.connected("migration") as connection:
            async with connection.transaction():
                for statement in statements:
                    await connection.execute(statement.encode())
                reading = await read(connection, users)
            world.ledger.note(reading)


async def _truncated(world: World, dice: random.Random) -> None:
    await _everyone(world, ["TRUNCATE public.user_credits"])
    await asyncio.sleep(dice.uniform(0.0, 0.5))
    await _everyone(
        world,
        [
            FILL.format(", ".join(repr(user) for user in world.ledger.users[: dice.randint(20, 80)])),
        ],
    )


async def _triggers_off(world: World, _: random.Random) -> None:
    await _everyone(
        world,
        [
            "ALTER TABLE public.user_credits DISABLE TRIGGER ALL",
            BONUS,
            "ALTER TABLE public.user_credits ENABLE TRIGGER ALL",
        ],
    )
    await world.creditsd("install")


async def _unseen(world: World, _: random.Random) -> None:
    """Write as logical replication does, past ordinary triggers; ours are to fire always."""
    await _everyone(world, ["SET LOCAL session_replication_role = replica", BONUS])


async def _swapped(world: World, _: random.Random) -> None:
    await _everyone(
        world,
        [
            "CREATE TABLE public.another (LIKE public.user_credits INCLUDING ALL)",
            "INSERT INTO public.another SELECT * FROM public.user_credits",
            "ALTER SEQUENCE public.user_credits_id_seq OWNED BY public.another.id",
            "DROP TABLE public.user_credits",
            "ALTER TABLE public.another RENAME TO user_credits",
            BONUS,
        ],
    )
    await world.creditsd("install", "--yes")


async def _detached(world: World, dice: random.Random) -> None:
    part = f"public.user_credits_{dice.randrange(3)}"
    attach = f"ALTER TABLE public.user_credits ATTACH PARTITION {part}"
    await _everyone(
        world,
        [
            f"ALTER TABLE public.user_credits DETACH PARTITION {part}",
            f"UPDATE {part} SET credits = credits + 3 WHERE status = 'active'",
            f"{attach} FOR VALUES WITH (MODULUS 3, REMAINDER {part[-1]})",
        ],
    )


def _whole(shape: Shape) -> bool:
    return not shape.partitioned


def _partitioned(shape: Shape) -> bool:
    return shape.partitioned


ADD = [
    "ALTER TABLE public.user_credits ADD COLUMN note text DEFAULT 'x'",
    "ALTER TABLE public.user_credits DROP COLUMN note",
]
WIDEN = [
    "ALTER TABLE public.user_credits ALTER COLUMN credits TYPE bigint",
    "ALTER TABLE public.user_credits ALTER COLUMN credits TYPE integer",
]
INDEX = ["CREATE INDEX another ON public.user_credits (plan_type, status)", "DROP INDEX public.another"]

FAULTS = (
    Fault("column added and dropped", partial(_ddl, statements=ADD)),
    Fault("type of credits altered", partial(_ddl, statements=WIDEN), 0.5),
    Fault("table analyzed", partial(_ddl, statements=["ANALYZE public.user_credits"])),
    Fault("table rewritten (VACUUM FULL)", partial(_ddl, statements=["VACUUM FULL public.user_credits"])),
    Fault(
        "our tables rewritten (VACUUM FULL)",
        partial(_ddl, statements=["VACUUM FULL creditsd.balances", "VACUUM FULL creditsd.changes"]),
    ),
    Fault("index made and dropped", partial(_ddl, statements=INDEX)),
    Fault("table truncated and filled", _truncated),
    Fault("triggers off for a load", _triggers_off, 0.5, mend="creditsd install"),
    Fault("write as a replica (session_replication_role)", _unseen, 0.5),
    Fault("table swapped for another", _swapped, 0.3, _whole, mend="creditsd install"),
    Fault("partition detached, changed, attached", _detached, 0.4, _partitioned),
)
