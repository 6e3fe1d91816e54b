"""Writers ring while somebody sleeps, and only then."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from tests.conftest import Database, eventually
from tests.integration.hearing import asked, heard, hearing
from tests.integration.line import OTHER, USER, K, Line, installed, user
from tests.integration.play import ADD


async def test_with_nobody_there_writers_keep_silent(installation: Database) -> None:
    async with hearing(installation) as rings:
        for number in range(5):
            installation.run(ADD, [user(number), 1])
        assert await heard(installation, rings) == 0


async def test_writers_ring_while_somebody_sleeps(installation: Database) -> None:
    async with hearing(installation) as rings, installation.connect() as sleeper:
        await sleeper.execute(f"SELECT pg_advisory_lock({K})".encode())
        installation.run(ADD, [USER, 1])
        assert await heard(installation, rings) == 1
        installation.run("UPDATE user_credits SET credits = 2")
        installation.run("DELETE FROM user_credits")
        installation.run("TRUNCATE user_credits")
        assert await heard(installation, rings) == 4
        installation.run("UPDATE user_credits SET note = 'x'")
        assert await heard(installation, rings) == 4
        await sleeper.execute(f"SELECT pg_advisory_unlock({K})".encode())
        installation.run(ADD, [USER, 1])
        assert await heard(installation, rings) == 4


async def test_one_transaction_rings_once(installation: Database) -> None:
    async with hearing(installation) as rings, installation.connect() as sleeper, installation.connect() as writer:
        await sleeper.execute(f"SELECT pg_advisory_lock({K})".encode())
        async with writer.transaction():
            for number in range(20):
                await writer.execute(ADD, [user(number), 1])
        assert await heard(installation, rings) == 1
        async with writer.transaction(force_rollback=True):
            await writer.execute(ADD, [USER, 1])
        assert await heard(installation, rings) == 1


async def test_a_silent_writer_keeps_the_daemon_from_sleep_and_the_next_writer_rings(installation: Database) -> None:
    async with (
        hearing(installation) as rings,
        installation.connect() as silent,
        installation.connect() as sleeper,
        installation.connect() as watcher,
    ):
        await silent.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await silent.execute("SAVEPOINT here")
        await silent.execute(ADD, [USER, 1])
        await silent.execute("RELEASE here")
        asking = asyncio.create_task(sleeper.execute(f"SELECT pg_advisory_lock({K})".encode()))
        await eventually(lambda: asked(watcher))
        installation.run(ADD, [OTHER, 1])
        assert await heard(installation, rings) == 1
        assert not asking.done()
        await silent.execute("COMMIT")
        await asking
        assert await heard(installation, rings) == 1


async def test_a_savepoint_rolled_back_may_ring_but_never_silences(installation: Database) -> None:
    async with hearing(installation) as rings, installation.connect() as writer, installation.connect() as sleeper:
        async with writer.transaction():
            async with writer.transaction(force_rollback=True):
                await writer.execute(ADD, [USER, 1])  # takes the lock, and gives it back
            await sleeper.execute(f"SELECT pg_advisory_lock({K})".encode())
            await writer.execute(ADD, [OTHER, 1])
        assert await heard(installation, rings) == 1


async def test_with_polling_nobody_ever_rings_and_transactions_can_be_prepared(reference_table: Database) -> None:
    settings = await installed(reference_table, wakeup="poll")
    async with (
        hearing(reference_table) as rings,
        reference_table.connect() as sleeper,
        reference_table.connect() as writer,
        Line.settled(settings) as line,
    ):
        await sleeper.execute(f"SELECT pg_advisory_lock({K})".encode())
        await writer.execute("BEGIN")
        await writer.execute(ADD, [USER, 1])
        await writer.execute(f"PREPARE TRANSACTION '{reference_table.name}'".encode())
        await writer.execute(f"COMMIT PREPARED '{reference_table.name}'".encode())
        assert await heard(reference_table, rings) == 0
        assert [total.user_id for total in await line.settle()] == [USER]


async def test_with_the_bell_a_transaction_that_rings_cannot_be_prepared(installation: Database) -> None:
    # Why wakeup = "poll" is there.
    async with installation.connect() as sleeper, installation.connect() as writer:
        await sleeper.execute(f"SELECT pg_advisory_lock({K})".encode())
        await writer.execute("BEGIN")
        await writer.execute(ADD, [USER, 1])
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="NOTIFY"):
            await writer.execute(f"PREPARE TRANSACTION '{installation.name}'".encode())
