"""What others do in the same database."""

from __future__ import annotations

import asyncio
import random
from functools import partial

import psycopg

from tests.faults.soak.fault import Fault
from tests.faults.soak.world import Shape, World

# Whose turn it is to recompute, whether the daemon sleeps, and who tidies the history.
LOCKS = (
    "'creditsd.balances'::regclass::oid::int4, 561984073",
    "'creditsd.changes'::regclass::oid::int4, 806331267",
    "'creditsd.history'::regclass::oid::int4, 1873320911",
)


async def _locked(world: World, dice: random.Random, *, table: str) -> None:
    """Hold a table of ours: who writes waits as long, and not for us."""
    with world.application.excusing(f"somebody locks {table}"):
        async with world.connected() as somebody:
            await somebody.execute(f"BEGIN; SET LOCAL lock_timeout = '5s'; LOCK TABLE {table}".encode())
            await asyncio.sleep(dice.uniform(0.3, 2.5))
            await somebody.execute("COMMIT")


async def _idle_in_transaction(world: World, dice: random.Random) -> None:
    async with world.connected() as somebody:
        await somebody.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await somebody.execute("SELECT count(*) FROM public.user_credits")
        await somebody.execute("SELECT pg_current_xact_id()")
        await asyncio.sleep(dice.uniform(0.5, 4.0))
        await somebody.execute("COMMIT")


async def _queue_full(world: World, dice: random.Random) -> None:
    """Listen and leave a transaction open, and notify until the queue is full or was emptied for us."""
    async with world.connected() as listener, world.connected() as somebody:
        await listener.execute("LISTEN whatever")
        await listener.execute("BEGIN")
        await listener.execute("SELECT FROM pg_class LIMIT 1")
        for _ in range(200):
            try:
                await somebody.execute("SELECT pg_notify('whatever', repeat('x', 7000) || clock_timestamp()::text)")
            except psycopg.errors.ProgramLimitExceeded:
                break
            cursor = await somebody.execute("SELECT pg_notification_queue_usage()")
            ((usage,),) = await cursor.fetchall()
            if usage > 0.7:
                break
        await asyncio.sleep(dice.uniform(0.5, 2.0))
        await listener.execute("COMMIT")


async def _advisory(world: World, dice: random.Random) -> None:
    """Take those of our advisory locks that are free at the moment."""
    async with world.connected() as somebody:
        for lock in dice.sample(LOCKS, dice.randint(1, len(LOCKS))):
            await somebody.execute(f"SELECT pg_try_advisory_lock({lock})".encode())
        await asyncio.sleep(dice.uniform(0.3, 2.0))


async def _rows_locked(world: World, dice: random.Random) -> None:
    """Hold some users' rows in a transaction that ends by itself."""
    async with world.ledger.holding(dice.sample(world.ledger.users, 20)) as users, world.connected() as somebody:
        await somebody.execute("BEGIN")
        await somebody.execute("SELECT FROM public.user_credits WHERE user_id = ANY(%s::uuid[]) FOR UPDATE", (users,))
        await asyncio.sleep(dice.uniform(0.3, 2.0))
        await somebody.execute("ROLLBACK")


def _small_queue(shape: Shape) -> bool:
    return shape.version >= 17


FAULTS = (
    Fault("creditsd.changes locked by somebody", partial(_locked, table="creditsd.changes")),
    Fault("creditsd.balances locked by somebody", partial(_locked, table="creditsd.balances")),
    Fault("user_credits locked by somebody", partial(_locked, table="public.user_credits")),
    Fault("a transaction that stays open", _idle_in_transaction),
    Fault("queue of notifications full", _queue_full, possible=_small_queue),
    Fault("our advisory locks held by somebody", _advisory),
    Fault("rows locked by the application", _rows_locked),
)
