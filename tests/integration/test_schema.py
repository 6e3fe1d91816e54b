"""Installing, upgrading, removing: what stands afterwards, and what the application notices meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from creditsd.admin.inspect import Inspector
from creditsd.config.settings import Settings
from creditsd.daemon.app import Daemon
from creditsd.domain.errors import ConfigError, CreditsdError, DatabaseUnavailable, SchemaError
from creditsd.domain.total import encode, read_previous
from creditsd.postgres import sql_files
from creditsd.postgres.connections import connected
from creditsd.schema import install as schema
from creditsd.schema.source_table import SourceTable
from tests.conftest import SERVERS, Database, Servers, eventually
from tests.integration.line import OTHER, USER, Line, MemorySink, as_role, configured, installed, user
from tests.servers import REFERENCE_TABLE, Postgres

GOLDEN = Path(__file__).parents[1] / "golden" / "schema.sql"
REWRITE = os.environ.get("CREDITSD_WRITE_GOLDEN", "")

PARTITIONED = """
CREATE TABLE user_credits (
    user_id uuid, credits integer, status text, plan_type text, region text NOT NULL
) PARTITION BY LIST (region);
CREATE TABLE credits_eu PARTITION OF user_credits FOR VALUES IN ('eu');
CREATE TABLE credits_us PARTITION OF user_credits FOR VALUES IN ('us') PARTITION BY LIST (region);
CREATE TABLE "Credits us" PARTITION OF credits_us FOR VALUES IN ('us');
"""


def dump(database: Database) -> str:
    """The whole schema as pg_dump writes it, without what differs from version to version."""
    text = database.pg_dump("--schema-only", "--no-owner")
    # How a view is written back: before 16 each column of a single table is still qualified.
    text = re.sub(r"(?s)(?<=CREATE VIEW).*?;", lambda view: re.sub(r"\bline\.", "", view[0]), text)
    # From 18 on, a partition's NOT NULL has a name: its parent's.
    text = re.sub(r" CONSTRAINT \w+_not_null(?= NOT NULL)", "", text)
    lines = [
        line for line in text.splitlines() if line and not re.match(r"--|SET |SELECT pg_catalog\.set_config", line)
    ]
    return "\n".join(lines).replace(database.name, "test") + "\n"


@pytest.fixture(scope="module")
def bare_database(servers: Servers) -> Iterator[Database]:
    server = servers.get(SERVERS[0])
    name = f"bare_{os.getpid()}"
    yield Database(server, name, server.create_database(name))
    server.drop_database(name)


@pytest.fixture
def bare(bare_database: Database) -> Database:
    """A database without any table, the same for all that leave nothing behind elsewhere; on the newest version."""
    bare_database.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return bare_database


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
    settings = configured(reference_table, lock_timeout_seconds=0.1)
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
                async with asyncio.timeout(5):
                    await writer.execute(add, [OTHER])
                slowest = max(slowest, time.monotonic() - began)
            assert not installing.done()
            assert slowest < 1
        async with asyncio.timeout(30):
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


# Partitions.


async def test_every_partition_is_captured_one_that_comes_later_too(database: Database) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    add = "INSERT INTO {} (user_id, credits, status, region) VALUES (%s, 1, 'active', %s)"
    async with Line.settled(settings) as line:
        database.run(add.format("user_credits"), [user(1), "eu"])
        database.run(add.format("credits_us"), [user(2), "us"])
        database.run(add.format('"Credits us"'), [user(3), "us"])
        assert await line.marked() == [user(1), user(2), user(3)]
        await line.settle()
        database.run("CREATE TABLE asia PARTITION OF user_credits FOR VALUES IN ('asia')")
        database.run("CREATE TABLE late (LIKE user_credits)")
        database.run(add.format("late"), [user(5), "late"])
        assert await line.marked() == []
        database.run("ALTER TABLE user_credits ATTACH PARTITION late FOR VALUES IN ('late')")
        database.run(add.format("asia"), [user(4), "asia"])
        database.run("UPDATE late SET credits = 7")
        assert await line.marked() == [user(4), user(5)]
        assert {total.user_id: total.credits for total in await line.settle()} == {user(4): 1, user(5): 7}


async def test_a_row_that_moves_between_partitions_marks_its_user(database: Database) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    async with Line.settled(settings) as line:
        database.run("INSERT INTO user_credits VALUES (%s, 3, 'active', 'one_time', 'eu')", [USER])
        await line.settle()
        database.run("UPDATE user_credits SET region = 'us', credits = 4")
        assert set(await line.marked()) == {USER}
        assert [total.credits for total in await line.settle()] == [4]
        database.run("UPDATE user_credits SET region = 'eu', user_id = %s, credits = 0", [OTHER])
        assert set(await line.marked()) == {USER, OTHER}
        await line.settle()
        assert await line.stored() == {USER: 0, OTHER: 0}
        assert database.run("SELECT status FROM credits_eu") == [("expired",)]


@pytest.mark.parametrize("partition", ["user_credits", "credits_us", '"Credits us"'])
async def test_a_truncated_partition_means_everyone(database: Database, partition: str) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    async with Line.settled(settings) as line:
        database.run("INSERT INTO user_credits VALUES (%s, 3, 'active', 'one_time', 'us')", [USER])
        await line.settle()
        database.run(f"TRUNCATE {partition}")
        assert [total.credits for total in await line.settle()] == [0]


async def test_a_detached_or_attached_partition_means_everyone(database: Database) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    async with Line.settled(settings) as line:
        database.run("INSERT INTO user_credits VALUES (%s, 3, 'active', 'one_time', 'eu')", [USER])
        await line.settle()
        database.run("ALTER TABLE user_credits DETACH PARTITION credits_eu")
        await line.change_reader.resume()
        assert [total.credits for total in await line.settle()] == [0]


async def test_triggers_fire_for_replicated_rows_on_every_partition(database: Database) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    async with Line.settled(settings) as line, database.connect() as application:
        await application.execute("SET session_replication_role = replica")
        for number, table in enumerate(("user_credits", "credits_eu", '"Credits us"')):
            region = "us" if number == 2 else "eu"
            await application.execute(
                f"INSERT INTO {table} VALUES (%s, 1, 'active', 'one_time', %s)".encode(), [user(number), region]
            )
        assert await line.marked() == [user(0), user(1), user(2)]
        await line.settle()
        await application.execute("UPDATE user_credits SET credits = 2")
        await application.execute("DELETE FROM user_credits WHERE region = 'us'")
        assert set(await line.marked()) == {user(0), user(1), user(2)}
        await application.execute("TRUNCATE credits_eu")
        await line.settle()
        assert await line.stored() == {user(0): 0, user(1): 0, user(2): 0}


async def test_the_application_adds_partitions_to_what_an_administrator_installed(
    database: Database, role: str
) -> None:
    database.run(f"GRANT CREATE ON SCHEMA public TO {role}")
    application = as_role(database, role)
    application.run(PARTITIONED)
    settings = await installed(database)
    application.run("CREATE TABLE asia PARTITION OF user_credits FOR VALUES IN ('asia')")
    async with Line.settled(settings) as line:
        application.run("INSERT INTO asia VALUES (%s, 3, 'active', 'one_time', 'asia')", [USER])
        assert [total.credits for total in await line.settle()] == [3]
        application.run("DROP TABLE credits_us")


# What cannot be installed.


@pytest.mark.parametrize(
    ("table", "settings", "says"),
    [
        ("CREATE TABLE user_credit ()", {}, r"no table public\.user_credits: did you mean public\.user_credit\?"),
        ("", {}, r"no table public\.user_credits: is this the right database\?"),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, state text)",
            {},
            r"public\.user_credits has no column 'status': did you mean 'state'\? Set source\.columns\.status",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, status text)",
            {"source": {"columns": {"membership": "plan_name"}}},
            r"no column 'plan_name': .* Set source\.columns\.membership \(an empty string where the table has none\)",
        ),
        (
            "CREATE TABLE user_credits (user_id jsonb, credits int, status text)",
            {},
            r"column user_id .* is jsonb: creditsd needs uuid, text or bigint",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits text, status text)",
            {},
            r"column credits .* is text: creditsd needs integer, bigint or numeric",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits double precision, status text)",
            {},
            r"column credits .* is double precision: creditsd needs integer, bigint or numeric",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, status text, expires_at text)",
            {},
            r"column expires_at .* is text: creditsd needs timestamp with time zone",
        ),
        ("CREATE VIEW user_credits AS SELECT 1", {}, r"public\.user_credits is a view"),
        ("CREATE MATERIALIZED VIEW user_credits AS SELECT 1", {}, r"public\.user_credits is a materialized view"),
        ("CREATE SEQUENCE user_credits", {}, r"public\.user_credits is a sequence"),
        (
            "CREATE TYPE s AS ENUM ('active', 'gone'); CREATE TABLE user_credits (user_id uuid, credits int, status s)",
            {},
            r"column status .* has no value 'expired' \(it has active, gone\): set source\.expired_status",
        ),
    ],
)
async def test_what_cannot_be_watched_is_refused_in_one_line(
    bare: Database, table: str, settings: dict[str, object], says: str
) -> None:
    if table:
        bare.run(table)
    before = dump(bare)
    with pytest.raises(SchemaError, match=says) as refusal:
        await installed(bare, **settings)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code == 78
    assert dump(bare) == before


async def test_an_enum_needs_no_expired_value_where_nothing_is_expired(database: Database) -> None:
    database.run("CREATE TYPE s AS ENUM ('active')")
    database.run("CREATE TABLE user_credits (user_id uuid, credits int, status s, plan_type text)")
    settings = await installed(database, expire_empty="off")
    async with Line.settled(settings) as line:
        database.run("INSERT INTO user_credits VALUES (%s, 0, 'active', 'one_time')", [USER])
        assert [total.credits for total in await line.settle()] == [0]


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
    reference_table.run("ALTER TABLE user_credits ALTER credits TYPE numeric")
    async with connected(settings.dsn, purpose="test") as connection:
        with pytest.raises(SchemaError, match="run `creditsd install`"):
            await schema.missing(connection, settings)
    assert (await schema.install(settings)).done
    async with Line.settled(settings) as line:
        reference_table.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 0.5, 'active')", [USER])
        assert [str(total.credits) for total in await line.settle()] == ["0.5"]


async def test_a_replica_is_refused(own_postgres: Callable[..., Postgres]) -> None:
    primary = own_postgres()
    primary.psql(REFERENCE_TABLE)
    with primary.standby() as standby:
        settings = configured(Database(standby, "postgres", standby.dsn()))
        with pytest.raises(ConfigError, match="read-only replica: point CREDITSD_DSN at the primary"):
            await schema.install(settings)
        with pytest.raises(ConfigError, match="read-only replica"):
            await Daemon(settings).run()


@pytest.mark.parametrize(
    ("dsn", "kind", "says"),
    [
        ({"dbname": "no_such_database"}, ConfigError, r"no_such_database.* does not exist: check CREDITSD_DSN"),
        ({"user": "no_such_role"}, ConfigError, "no_such_role"),
        ({"port": 1}, DatabaseUnavailable, "is PostgreSQL running, and is CREDITSD_DSN right"),
        ({"host": "no-such-host.invalid"}, DatabaseUnavailable, "no-such-host.*is CREDITSD_DSN right"),
    ],
)
async def test_a_dsn_that_leads_nowhere_is_told_in_one_line(
    reference_table18: Database, dsn: dict[str, str | int], kind: type[CreditsdError], says: str
) -> None:
    wrong = make_conninfo(reference_table18.dsn, **dsn)
    settings = configured(reference_table18, dsn=wrong)
    with pytest.raises(kind, match=says) as refusal:
        await schema.install(settings)
    assert "\n" not in str(refusal.value)


# Rights.


async def test_a_role_without_rights_is_told_so(reference_table: Database, role: str) -> None:
    stranger = configured(as_role(reference_table, role))
    with pytest.raises(SchemaError, match=r"belongs to postgres: run `creditsd install` as postgres, as a member"):
        await schema.install(stranger)
    await installed(reference_table)
    before = dump(reference_table)
    async with connected(stranger.dsn, purpose="test") as connection:
        with pytest.raises(SchemaError, match=r"permission denied.*creditsd install --role NAME"):
            await schema.missing(connection, stranger)
    with pytest.raises(SchemaError, match="creditsd install --role NAME"):
        await Daemon(stranger).run()
    with pytest.raises(SchemaError):
        await schema.uninstall(stranger)
    assert dump(reference_table) == before


async def test_the_owner_of_the_table_may_install_what_it_needs(database: Database, role: str) -> None:
    database.run(f"GRANT CREATE ON SCHEMA public TO {role}")
    database.run(f"GRANT CREATE ON DATABASE {database.name} TO {role}")
    owner = as_role(database, role)
    owner.run(REFERENCE_TABLE)
    settings = await installed(owner)
    async with Line.settled(settings) as line:
        owner.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')", [USER])
        assert [total.credits for total in await line.settle()] == [5]
    assert (await schema.uninstall(settings)).done


async def test_a_restricted_role_is_enough_to_run(reference_table: Database, role: str) -> None:
    await installed(reference_table, role=role)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role(reference_table, role).run("SELECT FROM user_credits")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role(reference_table, role).run("UPDATE creditsd.balances SET credits = 1")
    settings = configured(as_role(reference_table, role), role=role)
    reference_table.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')", [USER])
    sink = MemorySink()
    daemon = Daemon(settings, extra=[("memory", sink)])
    running = asyncio.create_task(daemon.run())
    try:
        await sink.until_credits(USER, 5)
        reference_table.run(
            "INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES (%s, 0, 'active', 'one_time')",
            [OTHER],
        )
        total = await sink.until_credits(OTHER, 0)
        assert total.cause == "auto-expire"
        assert reference_table.run("SELECT status FROM user_credits WHERE credits = 0") == [("expired",)]
        reference_table.run("TRUNCATE user_credits")
        await sink.until_credits(USER, 0)
        async with Inspector.opened(settings, purpose="test") as inspector:
            assert (await inspector.total(USER)).membership_status == "none"
            assert (await inspector.explain(USER)).rows == []
            status = await inspector.status()
            assert (status.leader_pid is not None, [each.name for each in status.sinks]) == (True, ["memory"])
            assert await inspector.backfill(lambda *_: None)
    finally:
        daemon.stop()
        await running
    assert reference_table.run("SELECT count(*) > 0 FROM creditsd.sinks WHERE cursor > 0") == [(True,)]


async def test_an_install_without_a_role_takes_nothing_from_the_one_that_has_it(
    reference_table: Database, role: str
) -> None:
    await installed(reference_table, role=role)
    await installed(reference_table, can_buy="always", wakeup="poll")
    async with Line.opened(configured(as_role(reference_table, role), wakeup="poll")) as line:
        await line.settle()
