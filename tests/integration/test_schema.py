"""Installing, upgrading, removing: what stands afterwards, and what the application notices meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from creditsd.config.settings import Settings
from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.domain.total import encode, read_previous
from creditsd.postgres import sql_files
from creditsd.postgres.connections import connected
from creditsd.schema import install as schema
from creditsd.schema.source_table import SourceTable
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, Line, configured, installed
from tests.integration.schemas import PARTITIONED, dump
from tests.servers import REFERENCE_TABLE

GOLDEN = Path(__file__).parents[1] / "golden" / "schema.sql"
REWRITE = os.environ.get("CREDITSD_WRITE_GOLDEN", "")

# What stands.


async def test_the_schema_is_the_one_on_record(reference_table: Database) -> None:
    await installed(reference_table)
    found = dump(reference_table)
    if REWRITE and reference_table.server.version == 18:
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text(), "if this is meant: CREDITSD_WRITE_GOLDEN=1 make test ARGS='-k on_record'"


async def test_everything_made_says_what_it_is(reference_table: Database) -> None:
    await installed(reference_table)
    silent = reference_table.run(
        """
        SELECT c.oid::regclass::text FROM pg_class AS c
        WHERE c.relnamespace = 'creditsd'::regnamespace
        AND c.relkind IN ('r', 'p', 'v') AND obj_description(c.oid) IS NULL
        UNION ALL
        SELECT p.oid::regprocedure::text FROM pg_proc AS p
        WHERE p.pronamespace = 'creditsd'::regnamespace AND obj_description(p.oid) IS NULL
        UNION ALL
        SELECT p.oid::regprocedure::text || ' has no search_path' FROM pg_proc AS p
        WHERE p.pronamespace = 'creditsd'::regnamespace
        AND p.prosqlbody IS NULL -- which is bound to what it calls when it is made
        AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c LIKE 'search_path=pg_catalog, pg_temp')
        """
    )
    assert silent == []


async def test_a_second_install_does_nothing(reference_table: Database) -> None:
    settings = configured(reference_table)
    assert (await schema.install(settings)).done
    before = reference_table.run("SELECT oid, xmin::text FROM pg_proc WHERE pronamespace = 'creditsd'::regnamespace")
    assert (await schema.install(settings)).done == []
    after = reference_table.run("SELECT oid, xmin::text FROM pg_proc WHERE pronamespace = 'creditsd'::regnamespace")
    assert sorted(before) == sorted(after)


async def test_twenty_installs_at_once_leave_one(reference_table: Database) -> None:
    settings = configured(reference_table)
    answers = await asyncio.gather(*(schema.install(settings) for _ in range(20)))
    assert sum(bool(answer.done) for answer in answers) == 1
    assert dump(reference_table) == GOLDEN.read_text()
    async with Line.settled(settings) as line:
        reference_table.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')", [USER])
        assert await line.marked() == [USER]


@pytest.mark.parametrize("table", [REFERENCE_TABLE, PARTITIONED], ids=["plain", "partitioned"])
async def test_uninstall_leaves_the_schema_as_it_was(database: Database, table: str) -> None:
    database.run(table)
    before = database.pg_dump("--schema-only")
    settings = await installed(database)
    assert database.pg_dump("--schema-only") != before
    assert (await schema.uninstall(settings)).done
    assert database.pg_dump("--schema-only") == before
    assert (await schema.uninstall(settings)).done == []
    assert (await schema.install(settings)).done


async def test_uninstall_works_where_the_table_is_gone(reference_table: Database) -> None:
    settings = await installed(reference_table)
    reference_table.run("DROP TABLE user_credits CASCADE")
    assert (await schema.uninstall(settings)).done
    assert reference_table.run("SELECT to_regnamespace('creditsd') IS NULL") == [(True,)]


async def test_uninstall_takes_nothing_of_others_along(reference_table: Database) -> None:
    settings = await installed(reference_table)
    for built, gone in (
        ("CREATE VIEW theirs AS SELECT * FROM creditsd.balances", "VIEW theirs"),
        ("CREATE MATERIALIZED VIEW theirs AS SELECT * FROM creditsd.source", "MATERIALIZED VIEW theirs"),
        ("CREATE VIEW theirs AS SELECT * FROM creditsd.source_rows()", "VIEW theirs"),
        ("CREATE TABLE theirs (total creditsd.balances)", "TABLE theirs"),
        ("CREATE TABLE theirs (user_id uuid REFERENCES creditsd.balances)", "TABLE theirs"),
        (
            "CREATE TABLE a (); CREATE POLICY theirs ON a USING (EXISTS (SELECT FROM creditsd.balances))",
            "TABLE a",
        ),
        ("CREATE TABLE creditsd.theirs ()", "TABLE creditsd.theirs"),
    ):
        reference_table.run(built)
        before = dump(reference_table)
        with pytest.raises(SchemaError, match="theirs"):
            await schema.uninstall(settings)
        assert dump(reference_table) == before
        reference_table.run(f"DROP {gone}")
    assert (await schema.uninstall(settings)).done


@pytest.mark.parametrize("number", [number for number, _ in sql_files.migrations()][:-1])
async def test_an_upgrade_ends_where_a_fresh_install_does(reference_table: Database, number: int) -> None:
    settings = configured(reference_table)
    async with connected(settings.dsn, purpose="install") as connection:
        source = await SourceTable.inspect(connection, settings)
        for each, name in sql_files.migrations():
            if each <= number:
                await connection.execute(source.filled(name).encode())
        await connection.execute(
            "INSERT INTO creditsd.installation (migration, digest, source, role) VALUES (%s, 'of then', '{}', '')",
            [number],
        )
        with pytest.raises(SchemaError, match="creditsd install"):
            await schema.missing(connection, settings)
    answer = await schema.install(settings)
    assert len([line for line in answer.done if line.startswith("applied")]) == len(sql_files.migrations()) - number
    assert dump(reference_table) == GOLDEN.read_text()


async def test_an_upgrade_names_what_others_have_built_on_what_it_must_make_anew(reference_table: Database) -> None:
    settings = configured(reference_table)
    async with connected(settings.dsn, purpose="install") as connection:
        source = await SourceTable.inspect(connection, settings)
        for number, name in sql_files.migrations():
            if number <= 9:
                await connection.execute(source.filled(name).encode())
    reference_table.run(
        "INSERT INTO creditsd.installation (migration, digest, source, role) VALUES (9, 'of then', '{}', '');"
        "CREATE VIEW creditsd.source AS SELECT user_id FROM user_credits;"
        "CREATE VIEW theirs AS SELECT * FROM creditsd.source"
    )
    before = dump(reference_table)
    with pytest.raises(
        SchemaError, match=r"view public\.theirs depends on view creditsd\.source: drop what is not ours first"
    ):
        await schema.install(settings)
    assert dump(reference_table) == before
    reference_table.run("DROP VIEW theirs")
    assert (await schema.install(settings)).done


async def test_an_upgrade_keeps_what_a_total_was_before(reference_table: Database) -> None:
    settings = configured(reference_table)
    before = {
        "version": 7, "updated_at": "2026-11-22T09:00:00.5Z", "credits": 0.1, "membershipStatus": "active",
        "planType": "one_time", "canBuy": True, "hasEverHadSubscription": False, "subscription_id": None,
        "membership": "Pro", "expires_at": None,
    }  # fmt: skip
    columns = (
        "user_id, version, updated_at, credits, membership_status, plan_type, can_buy, has_ever_had_subscription, cause"
    )
    now = f"'{USER}', 8, now(), 2, 'active', 'one_time', true, false, 'change'"
    async with connected(settings.dsn, purpose="install") as connection:
        source = await SourceTable.inspect(connection, settings)
        for number, name in sql_files.migrations():
            if number < 9:
                await connection.execute(source.filled(name).encode())
        note = "INSERT INTO creditsd.installation (migration, digest, source, role) VALUES (8, 'of then', '{}', '')"
        await connection.execute(note)
        for table in ("balances", "history"):
            stored = f"INSERT INTO creditsd.{table} ({columns}, previous) VALUES ({now}, %s)"
            await connection.execute(stored.encode(), [json.dumps(before)])
    await schema.install(settings)
    for table in ("balances", "history"):
        ((record,),) = reference_table.run(f"SELECT record_send(previous) FROM creditsd.{table}")
        read = json.loads(encode(read_previous(record)))
        assert read == before | {"updated_at": "2026-11-22T09:00:00.500000Z"}


async def test_a_schema_of_a_newer_creditsd_is_left_alone(reference_table: Database) -> None:
    settings = await installed(reference_table)
    reference_table.run("UPDATE creditsd.installation SET migration = 9999")
    with pytest.raises(SchemaError, match="upgrade creditsd"):
        await schema.install(settings)
    async with connected(settings.dsn, purpose="test") as connection:
        with pytest.raises(SchemaError, match="upgrade creditsd"):
            await schema.missing(connection, settings)


@pytest.mark.parametrize("table", [REFERENCE_TABLE, PARTITIONED], ids=["plain", "partitioned"])
async def test_the_printed_script_does_what_install_does(database: Database, table: str) -> None:
    database.run(table)
    settings = configured(database)
    text = await schema.script(settings)
    assert database.run("SELECT to_regnamespace('creditsd') IS NULL") == [(True,)]
    database.psql(text)
    by_hand = dump(database)
    async with connected(settings.dsn, purpose="test") as connection:
        await schema.missing(connection, settings)
    assert (await schema.install(settings)).done == []
    await schema.uninstall(settings)
    await schema.install(settings)
    assert dump(database) == by_hand


async def test_the_printed_script_grants_to_the_role_it_is_given(reference_table: Database, role: str) -> None:
    settings = configured(reference_table, role=role)
    reference_table.psql(await schema.script(settings))
    by_hand = dump(reference_table)
    assert role in by_hand
    await schema.uninstall(settings)
    await schema.install(settings)
    assert dump(reference_table) == by_hand


async def test_settings_that_changed_are_noticed_and_installed(reference_table: Database) -> None:
    await installed(reference_table)
    changes: list[dict[str, object]] = [
        {"wakeup": "poll"},
        {"source": {"active_statuses": ["active", "trial"]}},
        {"source": {"expired_status": "ended"}},
        {"source": {"columns": {"membership": "subscription_id"}}},
        {"source": {"columns": {"created_at": ""}}},
    ]
    for changed in changes:
        settings = configured(reference_table, **changed)
        async with connected(settings.dsn, purpose="test") as connection:
            with pytest.raises(SchemaError, match="differ from what is installed: run `creditsd install`"):
                await schema.missing(connection, settings)
            assert (await schema.install(settings)).done
            await schema.missing(connection, settings)


async def test_a_trigger_that_somebody_dropped_or_disabled_is_noticed_and_mended(reference_table: Database) -> None:
    settings = await installed(reference_table)
    before = dump(reference_table)
    for damage, says in (
        ("DROP TRIGGER creditsd_update ON user_credits", "are missing"),
        ("ALTER TABLE user_credits DISABLE TRIGGER USER", "are disabled"),
        ("ALTER TABLE user_credits ENABLE TRIGGER ALL", "do not fire for rows that replication or a restore writes"),
    ):
        reference_table.run(damage)
        async with connected(settings.dsn, purpose="test") as connection:
            with pytest.raises(SchemaError, match=rf"triggers {says} on public\.user_credits: run `creditsd install`"):
                await schema.missing(connection, settings)
        await schema.install(settings)
        assert dump(reference_table) == before


# Locks.


async def test_a_long_transaction_delays_the_install_and_nobody_else(reference_table: Database) -> None:
    settings = configured(reference_table, lock_timeout_seconds=1.0)
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'user_credits'::regclass"
    add = "INSERT INTO user_credits (user_id, credits) VALUES (%s, 1)"
    async with (
        reference_table.connect() as holder,
        reference_table.connect() as writer,
        reference_table.connect() as watcher,
    ):

        async def refused() -> int:
            return int((await (await watcher.execute(waiting)).fetchall())[0][0])

        async with holder.transaction():
            await holder.execute(add, [USER])
            installing = asyncio.create_task(schema.install(settings))
            slowest = 0.0
            for _ in range(3):
                await eventually(refused)
                began = time.monotonic()
                async with asyncio.timeout(60):
                    await writer.execute(add, [OTHER])
                slowest = max(slowest, time.monotonic() - began)
            assert not installing.done()
            assert slowest < 10 * settings.lock_timeout_seconds
        async with asyncio.timeout(60):
            assert (await installing).done
    async with Line.opened(settings) as line:
        await line.settle()
        assert await line.stored() == {USER: 0, OTHER: 0}


async def test_a_transaction_without_end_leaves_nothing_half_installed(reference_table: Database) -> None:
    settings = configured(reference_table, lock_timeout_seconds=0.05, lock_wait_seconds=0.2)
    before = dump(reference_table)
    async with reference_table.connect() as holder, holder.transaction():
        await holder.execute("INSERT INTO user_credits (user_id, credits) VALUES (%s, 1)", [USER])
        with pytest.raises(DatabaseUnavailable, match=rf"never free .*\(process {holder.info.backend_pid}"):
            await schema.install(settings)
    assert dump(reference_table) == before


@pytest.mark.parametrize("command", [schema.install, schema.uninstall], ids=["install", "uninstall"])
async def test_whoever_holds_the_turn_to_install_is_named_and_not_waited_for_without_end(
    reference_table: Database, command: Callable[[Settings], Awaitable[schema.Installed]]
) -> None:
    settings = configured(reference_table, lock_wait_seconds=0.3)
    turn = "SELECT pg_advisory_lock(hashtextextended('creditsd install', 0))"
    async with reference_table.connect() as holder:
        await holder.execute(turn)
        with pytest.raises(DatabaseUnavailable, match=rf"one install at a time .*\(process {holder.info.backend_pid}"):
            async with asyncio.timeout(20):
                await command(settings)


async def test_who_waits_for_the_turn_to_install_says_so_and_takes_it_as_soon_as_it_is_free(
    reference_table: Database,
) -> None:
    settings = configured(reference_table, lock_timeout_seconds=0.02)
    async with reference_table.connect() as holder:
        with capture_logs() as logs:
            await holder.execute("SELECT pg_advisory_lock(hashtextextended('creditsd install', 0))")
            installing = asyncio.create_task(schema.install(settings))

            async def awaited() -> list[str]:
                return [event["holder"] for event in logs if event["event"] == "schema.turn_awaited"]

            said = await eventually(awaited)
            await holder.execute("SELECT pg_advisory_unlock_all()")
            assert (await installing).done
        assert f"process {holder.info.backend_pid}" in said[0]


async def test_uninstall_gives_up_as_quickly_and_leaves_all_in_place(reference_table: Database) -> None:
    settings = await installed(reference_table, lock_timeout_seconds=0.05, lock_wait_seconds=0.2)
    before = dump(reference_table)
    async with reference_table.connect() as holder, holder.transaction():
        await holder.execute("SELECT FROM user_credits")
        with pytest.raises(DatabaseUnavailable, match="never free"):
            await schema.uninstall(settings)
    assert dump(reference_table) == before


# Columns.


@pytest.mark.parametrize(
    "change",
    [
        *(
            f"ALTER COLUMN {column} TYPE {kind}"
            for column, kind in (
                ("user_id", "text"), ("credits", "bigint"), ("credits", "numeric(12, 2)"), ("status", "varchar(20)"),
                ("plan_type", "varchar"), ("membership", "char(10)"), ("subscription_id", "varchar(80)"),
                ("expires_at", "timestamp"), ("created_at", "date"),
            )
        ),
        *(f"DROP COLUMN {column}" for column in ("user_id", "credits", "status", "membership", "created_at")),
        *(f"RENAME COLUMN {column} TO other" for column in ("user_id", "credits", "plan_type")),
    ],
)  # fmt: skip
async def test_the_application_alters_its_columns_as_if_nothing_stood_beside_them(
    reference_table18: Database, change: str
) -> None:
    await installed(reference_table18)
    reference_table18.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')", [USER])
    reference_table18.run(f"ALTER TABLE user_credits {change}")


async def test_a_column_that_changed_its_type_is_read_right_after_an_install(reference_table: Database) -> None:
    settings = await installed(reference_table)
    reference_table.run("ALTER TABLE user_credits ALTER expires_at TYPE date")
    async with connected(settings.dsn, purpose="test") as connection:
        with pytest.raises(SchemaError, match="run `creditsd install`"):
            await schema.missing(connection, settings)
    assert (await schema.install(settings)).done
    async with Line.settled(settings) as line:
        reference_table.run(
            "INSERT INTO user_credits (user_id, credits, status, expires_at) VALUES (%s, 5, 'active', '2999-12-31')",
            [USER],
        )
        assert [str(total.expires_at) for total in await line.settle()] == ["3000-01-01 00:00:00+00:00"]
