"""What is read for good is deleted, step by step, and nothing else."""

from __future__ import annotations

import itertools

from creditsd.config.settings import Settings
from tests.conftest import Database
from tests.integration.line import OTHER, USER, Line, user
from tests.integration.marks import stored, waiting
from tests.integration.play import ADD, Session


async def test_a_purge_deletes_what_is_read_and_nothing_else(
    installation: Database, application: Session, line: Line
) -> None:
    async with installation.connect() as early:
        await early.execute("BEGIN")
        await early.execute(ADD, [USER, 5])
        for number in range(10):
            await application.execute(ADD, [user(number), 1])
        await line.settle()
        await application.execute(ADD, [OTHER, 1])  # not read
        await line.change_reader.save()
        assert await line.change_reader.purge(line.connection, 1000, None) is None
        assert await waiting(application) == 1
        await early.execute("COMMIT")
        assert await waiting(application) == 2
        await line.settle()
        assert (await stored(line))[USER] == 6
        await line.change_reader.save()
        assert await line.change_reader.purge(line.connection, 1000, None) is None
        assert await waiting(application) == 0


async def test_a_purge_before_the_first_reading_does_nothing(
    installation: Database, settings: Settings, application: Session, line: Line
) -> None:
    await application.execute(ADD, [USER, 5])
    await application.execute("DELETE FROM creditsd.reader")
    assert await line.change_reader.purge(line.connection, 1000, None) is None
    assert await waiting(application) == 1


async def test_a_purge_goes_in_steps_and_finds_every_repeat_of_a_pair(application: Session, line: Line) -> None:
    async with application.transaction():
        for number in range(60):
            await application.execute(ADD, [user(number % 3), 1])
    await line.settle()
    await line.change_reader.save()
    left, position = [60], None
    while True:
        position = await line.change_reader.purge(line.connection, 7, position)
        left.append(await waiting(application))
        if position is None:
            break
    assert left[-1] == 0
    assert all(before - after in (7, 60 % 7, 0) for before, after in itertools.pairwise(left))


async def test_what_is_not_saved_is_not_purged(application: Session, settings: Settings) -> None:
    async with Line.settled(settings) as line:
        await line.change_reader.save()
        await application.execute(ADD, [USER, 5])
        await line.settle()
        await line.change_reader.purge(line.connection, 1000, None)
        assert await waiting(application) == 1
    async with Line.opened(settings) as line:
        assert await line.marked() == [USER]


async def test_a_purge_never_passes_the_saved_cursor_though_it_is_asked_to(application: Session, line: Line) -> None:
    await line.change_reader.save()
    await application.execute(ADD, [USER, 5])
    rows = await application.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
    ((xmin,),) = await rows.fetchall()
    beyond = f"{int(xmin) + 1000}:{int(xmin) + 1000}:"
    await line.change_reader.purge(line.connection, 1000, (beyond, None, None))
    assert await waiting(application) == 1


async def test_a_long_transaction_makes_neither_reading_nor_purging_step_over_the_dead(
    installation: Database, application: Session, line: Line
) -> None:
    async with installation.connect(autocommit=False) as old:
        await old.execute("SELECT pg_current_xact_id()")
        for turn in range(3):
            await application.execute(
                "INSERT INTO user_credits (user_id, credits, status) SELECT gen_random_uuid(), 1, 'active' "
                "FROM generate_series(1, 2000)"
            )
            await line.settle()
            await line.change_reader.save()
            position = await line.change_reader.purge(line.connection, 500, None)
            while position is not None:
                position = await line.change_reader.purge(line.connection, 500, position)
            assert await waiting(application) == 0, turn
        snapshot = line.change_reader._snapshot
        await application.execute("SET enable_seqscan = off")  # as our functions do
        rows = await application.execute(
            "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF, FORMAT JSON) SELECT FROM creditsd.changes "
            "WHERE xid >= pg_snapshot_xmax(%s::text::pg_snapshot)",
            [snapshot],
        )
        ((plan,),) = await rows.fetchall()
        assert plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"] < 10
