"""A table is rewritten just when it is to be read: to a snapshot from before that, PostgreSQL shows nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest

from creditsd.admin.inspect import Inspector
from creditsd.config.settings import Settings
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, Line, installed, said, user
from tests.integration.play import ADD

T = TypeVar("T")

REWRITES = {
    "its type": "ALTER TABLE user_credits ALTER COLUMN credits TYPE bigint",
    "another column": "ALTER TABLE user_credits ADD COLUMN noted timestamptz DEFAULT clock_timestamp()",
    "its storage": "ALTER TABLE user_credits SET UNLOGGED",
}
WAITS = "SELECT count(*) FROM pg_locks WHERE relation = '{}'::regclass AND NOT granted"
PARTITIONED = """
    CREATE TABLE user_credits (
        user_id uuid, credits int, status text, plan_type text, membership text, subscription_id text,
        expires_at timestamptz, created_at timestamptz DEFAULT now()
    ) PARTITION BY HASH (user_id);
    CREATE TABLE only_part PARTITION OF user_credits FOR VALUES WITH (MODULUS 1, REMAINDER 0);
"""


async def meanwhile(
    database: Database, rewrite: str, read: Callable[[], Awaitable[T]], table: str = "user_credits"
) -> T:
    """Read while the table is being rewritten: the read has begun when the rewrite is committed."""
    async with database.connect() as migration:
        await migration.execute("BEGIN")
        await migration.execute(rewrite.encode())
        reading = asyncio.ensure_future(read())

        async def waits() -> int:
            return int(database.run(WAITS.format(table))[0][0])

        await eventually(waits, lambda found: found > 0)
        await migration.execute("COMMIT")
        return await reading


@pytest.fixture
async def settings(reference_table: Database) -> Settings:
    """Of a table that nobody has rewritten yet."""
    return await installed(reference_table)


@pytest.fixture
async def line(settings: Settings) -> AsyncIterator[Line]:
    async with Line.settled(settings) as opened:
        yield opened


@pytest.mark.parametrize("rewrite", REWRITES.values(), ids=REWRITES)
@pytest.mark.parametrize("changes", [1, 20], ids="{} changed".format)
async def test_whoever_has_changed_is_summed_up_with_all_rows(
    reference_table: Database, line: Line, rewrite: str, changes: int
) -> None:
    users = [user(number) for number in range(1, changes + 1)]
    for credits_ in (5, 2):
        for each in users:
            reference_table.run(ADD, [each, credits_])
        if credits_ == 5:
            await line.settle()
    totals = await meanwhile(reference_table, rewrite, line.settle)
    assert {total.user_id: total.credits for total in totals} == dict.fromkeys(users, 7)


async def test_so_is_whoever_has_no_credits_left(reference_table: Database, line: Line) -> None:
    reference_table.run(ADD, [USER, 5])
    await line.settle()
    reference_table.run(ADD, [USER, -9])
    (total,) = await meanwhile(reference_table, REWRITES["its type"], line.settle)
    assert said(total, "credits", "membership_status") == (-4, "active")


async def test_so_is_whoever_time_changes(reference_table: Database, line: Line) -> None:
    reference_table.run(ADD, [USER, 5])
    await line.settle()
    reference_table.run("UPDATE creditsd.balances SET recheck_at = now()")
    await meanwhile(reference_table, REWRITES["its type"], lambda: line.recomputer.recompute_due(100))
    assert await line.stored() == {USER: 5}


async def test_a_resync_passes_nobody_by(reference_table: Database, line: Line) -> None:
    for each in (USER, OTHER):
        reference_table.run(ADD, [each, 5])
    await line.settle()
    reference_table.run("DELETE FROM creditsd.balances")
    await line.recomputer.begin_resync("test")
    await meanwhile(reference_table, REWRITES["its type"], line.settle)
    assert await line.stored() == {USER: 5, OTHER: 5}


async def test_a_partition_is_waited_for_too(database: Database) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    database.run(ADD, [USER, 5])
    async with Line.settled(settings) as line:
        database.run(ADD, [USER, -9])
        totals = await meanwhile(database, "ALTER TABLE only_part SET UNLOGGED", line.settle, "only_part")
        assert [total.credits for total in totals] == [-4]


async def test_what_is_computed_for_a_read_knows_all_rows(reference_table: Database, settings: Settings) -> None:
    reference_table.run(ADD, [USER, 5])
    async with Inspector.opened(settings, purpose="get") as inspector:
        total = await meanwhile(reference_table, REWRITES["its type"], lambda: inspector.total(USER))
        assert total.credits == 5


async def test_who_reads_the_rows_in_our_words_sees_all_of_them(reference_table: Database, settings: Settings) -> None:
    reference_table.run(ADD, [USER, 5])
    query = f"SELECT credits FROM creditsd.source_rows('{USER}')"

    async def read() -> Any:
        return await asyncio.to_thread(reference_table.run, query)

    assert await meanwhile(reference_table, REWRITES["its type"], read) == [(5,)]
