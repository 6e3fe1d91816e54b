"""A database that is put back from a dump, or copied: everyone is looked at, and told what is true now."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from creditsd.config.settings import Settings
from creditsd.postgres import sql_files
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, Line, MemorySink, configured, user
from tests.integration.play import ADD
from tests.integration.running import running

LATE = user(99)
LEADER = sql_files.filled("queries/leader_found", "creditsd")
SPENT = "UPDATE user_credits SET credits = 3 WHERE user_id = %s"


async def told_before(settings: Settings, database: Database, sink: MemorySink) -> str:
    """Dump a database in which everyone is told; return the dump. Afterwards somebody is told something newer."""
    for name in (USER, OTHER):
        database.run(ADD, [name, 10])
    async with running(settings, sink):
        await sink.until(lambda: len(sink.newest) == 2)
    dumped = database.pg_dump()
    async with running(settings, sink):
        database.run(SPENT, [USER])
        await sink.until_credits(USER, 3)
    return dumped


def put_back(database: Database, dumped: str) -> None:
    """Restore a dump over what there is, in one transaction."""
    database.psql(f"BEGIN; DROP SCHEMA public, creditsd CASCADE; CREATE SCHEMA public; {dumped}; COMMIT;")


@pytest.mark.parametrize("while_it_runs", [True, False])
async def test_what_was_told_after_a_dump_is_taken_back_when_it_is_restored_in_place(
    installation: Database, settings: Settings, *, while_it_runs: bool
) -> None:
    # The server and its time line are the same, the stored total is that of the table, and the sink's is a newer one.
    sink = MemorySink()
    dumped = await told_before(settings, installation, sink)
    if not while_it_runs:
        put_back(installation, dumped)
    async with running(settings, sink):
        if while_it_runs:
            installation.run(ADD, [LATE, 7])
            await sink.until_credits(LATE, 7)
            put_back(installation, dumped)
            await sink.until_credits(LATE, 0)  # of whom the database knows nothing any more
        await sink.until_credits(USER, 10)
        await eventually(partial(asyncio.to_thread, installation.run, LEADER), lambda rows: rows == [(True,)])
        installation.run(SPENT, [OTHER])
        await sink.until_credits(OTHER, 3)
    async with running(settings, sink) as daemon:
        await sink.until_credits(OTHER, 3)
        assert daemon.state != "backfilling", "it is at home now"


async def test_a_copied_database_tells_everyone_of_its_own(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    await told_before(settings, installation, sink)
    name = f"{installation.name}_copied"
    copy = Database(installation.server, name, installation.server.create_database(name, template=installation.name))
    try:
        of_the_copy = MemorySink()
        async with running(configured(copy), of_the_copy):
            await of_the_copy.until(lambda: {total.credits for total in of_the_copy.newest.values()} == {3, 10})
    finally:
        installation.server.drop_database(name)


async def test_a_restored_dump_means_everyone_and_marks_of_old_do_not_linger(
    installation: Database, settings: Settings
) -> None:
    installation.run(ADD, [USER, 5])
    async with Line.settled(settings):
        pass
    # As after a restore on another server: marks of transactions that are still to come here.
    installation.run("UPDATE creditsd.reader SET system_identifier = 1")
    installation.run("INSERT INTO creditsd.changes VALUES ('99999999', %s)", [OTHER])
    installation.run("INSERT INTO creditsd.resyncs VALUES ('99999999', 'truncate')")
    async with Line.opened(settings) as line:
        assert line.resumption.resyncing == "another server"
        await line.settle()
        assert installation.run("SELECT FROM creditsd.changes UNION ALL SELECT FROM creditsd.resyncs") == []


async def test_a_database_restored_from_its_dump_works_on(installation: Database, settings: Settings) -> None:
    installation.run(ADD, [USER, 5])
    async with Line.settled(settings) as line:
        await line.change_reader.save()
    name = f"{installation.name}_restored"
    copy = Database(installation.server, name, installation.server.create_database(name))
    try:
        copy.psql(installation.pg_dump())
        async with Line.opened(configured(copy)) as line:
            copy.run(ADD, [OTHER, 7])
            await line.settle()
            assert await line.stored() == {USER: 5, OTHER: 7}
    finally:
        installation.server.drop_database(name)
