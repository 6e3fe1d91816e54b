"""The database moves to another server, or gets its rows from one: a dump, a point in time, a subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.conftest import Database, Servers, eventually, fresh_database
from tests.faults.load import Load, fill
from tests.faults.test_upgrades import documents, older_after_newer
from tests.faults.truth import wrong_among
from tests.integration.line import MemorySink, configured, installed
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE, Postgres, versions
from tests.workshop import Absent

USERS = 40
OLD, NEW = 15, 18


def of(server: Postgres) -> Database:
    return Database(server, "postgres", server.dsn())


async def told_under_load(database: Database, sink: MemorySink) -> None:
    """Write, and tell, until everyone has been told the truth, and end."""
    async with running(configured(database), sink):
        async with Load(database.dsn, USERS, clients=2, pause_seconds=0.002) as load:
            await load.until_written(200)
        await eventually(lambda: wrong_among(database.dsn, documents(sink)), lambda wrong: wrong == {})


async def goes_on(database: Database, sink: MemorySink) -> None:
    """Whoever has been told by the former server is told the truth of this one, and nothing older."""
    await told_under_load(database, sink)
    assert older_after_newer(sink.totals, {}) == []


async def prepare(database: Database) -> MemorySink:
    """Install beside a table with users, and tell everyone."""
    database.run(REFERENCE_TABLE)
    fill(database.dsn, USERS)
    await installed(database)
    sink = MemorySink()
    await told_under_load(database, sink)
    return sink


async def test_a_dump_of_an_older_postgresql_goes_on_in_a_newer_one(servers: Servers) -> None:
    if not {OLD, NEW} <= versions().keys():
        raise Absent(f"PostgreSQL {OLD} and {NEW} are not both installed here")
    with fresh_database(servers.get(f"pg{OLD}")) as former, fresh_database(servers.get(f"pg{NEW}")) as moved:
        sink = await prepare(former)
        former.run("UPDATE user_credits SET credits = credits + 1000")  # nobody is told before it moves
        moved.psql(former.pg_dump())
        await goes_on(moved, sink)


async def test_after_a_restore_to_a_point_in_time_everyone_is_told_what_was_true_then(
    own_postgres: Callable[..., Postgres],
) -> None:
    server = await asyncio.to_thread(own_postgres)
    sink = await prepare(of(server))
    with await asyncio.to_thread(server.standby) as backup:
        await asyncio.to_thread(backup.stop)
        of(server).run("UPDATE user_credits SET credits = 7")
        point = str(of(server).run("SELECT pg_current_wal_flush_lsn()")[0][0])
        of(server).run("UPDATE user_credits SET credits = 7000")
        await told_under_load(of(server), sink)
        backup.settings = {**backup.settings, "recovery_target_lsn": point, "recovery_target_action": "promote"}
        await asyncio.to_thread(backup.start)

        async def promoted() -> object:
            return (await asyncio.to_thread(of(backup).run, "SELECT pg_is_in_recovery()"))[0][0]

        await eventually(promoted, lambda recovering: recovering is False)
        assert of(backup).run("SELECT DISTINCT credits FROM user_credits") == [(7,)]
        await goes_on(of(backup), sink)


async def test_rows_that_a_subscription_writes_are_told_as_if_the_application_had_written_them(
    own_postgres: Callable[..., Postgres],
) -> None:
    server = await asyncio.to_thread(own_postgres, wal_level="logical")
    source = of(server)
    source.run(REFERENCE_TABLE)
    fill(source.dsn, USERS)
    target = Database(server, "subscriber", server.create_database("subscriber"))
    target.run(REFERENCE_TABLE)
    settings = await installed(target)
    sink = MemorySink()
    source.run("CREATE PUBLICATION credits FOR TABLE user_credits")
    source.run("SELECT pg_create_logical_replication_slot('credits', 'pgoutput')")
    async with running(settings, sink) as daemon:
        await until(daemon, "doorbell", "asleep")
        target.run(
            f"CREATE SUBSCRIPTION credits CONNECTION '{source.dsn}' PUBLICATION credits WITH (create_slot = false)"
        )
        await sink.until(lambda: len(sink.newest) == USERS)
        async with Load(source.dsn, USERS, clients=2, pause_seconds=0.002) as load:
            await load.until_written(200)
        await eventually(lambda: wrong_among(source.dsn, documents(sink)), lambda wrong: wrong == {})
        source.run("TRUNCATE user_credits")
        await sink.until(lambda: {total.credits for total in sink.newest.values()} == {0})
