"""The application alters columns under a running daemon: every total is right, without a write that fails."""

from __future__ import annotations

from typing import Any

import pytest

from creditsd.domain.errors import SchemaError
from creditsd.schema import install as schema
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, Line, MemorySink, installed, said
from tests.integration.mending import ADD, SPEND, fingerprint, until_mended, until_unready
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE

VIRTUAL = """
CREATE TABLE user_credits (
    org text, user_id text GENERATED ALWAYS AS (org || ':1') VIRTUAL, credits int, status text
)
"""
GENERATED = """
CREATE TABLE user_credits (
    user_id text, credits int, status text GENERATED ALWAYS AS (CASE WHEN credits > 0 THEN 'active' END) STORED
)
"""
# A subscription, and a pack.
PLANS = """
INSERT INTO user_credits (user_id, credits, status, plan_type, membership, subscription_id, expires_at) VALUES
    (%s, %s, 'active', 'subscription', 'Pro', %s, now() + interval '1 day'),
    (%s, %s, 'active', 'one_time', 'Pro', %s, NULL)
"""
SUBSCRIPTION = "00000000-0000-0000-0000-0000000000aa"
TYPES = """
CREATE TYPE state AS ENUM ('active', 'expired', 'paused');
CREATE TYPE plan AS ENUM ('subscription', 'one_time', 'Pro');
"""
LOOKED_AT = """
SELECT r.fingerprint = creditsd.fingerprint() AND r.resync_cause IS NULL AND NOT EXISTS (SELECT FROM creditsd.resyncs)
FROM creditsd.reader AS r
"""
EXPIRED = "SELECT count(*) FROM user_credits WHERE status::text = 'expired'"
TRUTH = "SELECT user_id::text, sum(credits) FROM user_credits GROUP BY 1"


async def until_read(database: Database, statement: str, wanted: object) -> None:
    """Wait until a statement that returns one value returns this one."""

    async def read() -> object:
        return database.run(statement)[0][0]

    await eventually(read, lambda found: found == wanted)


@pytest.mark.parametrize(
    ("column", "before", "after"),
    [
        ("status", "text", "varchar(20)"),
        ("status", "varchar(20)", "text"),
        ("status", "text", "char(20)"),
        ("status", "char(20)", "varchar(20)"),
        ("status", "text", "state"),
        ("status", "state", "varchar(20)"),
        ("plan_type", "text", "varchar(20)"),
        ("plan_type", "varchar(20)", "char(20)"),
        ("plan_type", "text", "plan"),
        ("membership", "text", "varchar(100)"),
        ("membership", "varchar(20)", "char(20)"),
        ("membership", "text", "plan"),
        ("subscription_id", "text", "uuid"),
        ("subscription_id", "uuid", "varchar(36)"),
        ("user_id", "varchar(36)", "varchar(64)"),
        ("credits", "smallint", "integer"),
        ("credits", "integer", "bigint"),
        ("credits", "bigint", "numeric"),
        ("credits", "numeric", "numeric(10,2)"),
        ("credits", "numeric", "integer"),
        ("expires_at", "timestamptz(3)", "timestamptz"),
    ],
)
async def test_a_type_that_leaves_the_meaning_alone_heals_by_itself(
    database: Database, column: str, before: str, after: str
) -> None:
    database.run(TYPES)
    database.run(REFERENCE_TABLE)
    retype = f"ALTER TABLE user_credits ALTER COLUMN {column} TYPE {{0}} USING {column}::text::{{0}}"
    database.run(retype.format(before))
    settings = await installed(database)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        database.run(PLANS, [USER, 10, SUBSCRIPTION, USER, 5, SUBSCRIPTION])
        await sink.until_credits(USER, 15)
        await until(daemon, "state", "leading")
        database.run(retype.format(after))
        database.run(PLANS, [OTHER, 20, SUBSCRIPTION, OTHER, 7, SUBSCRIPTION])
        await until_read(database, LOOKED_AT, True)
        await until_mended(daemon)
        database.run("UPDATE user_credits SET credits = 0 WHERE plan_type = 'one_time'")
        await sink.until_credits(USER, 10)
        await sink.until_credits(OTHER, 20)
        told = sink.newest[USER]
        assert said(told, "membership", "plan_type", "subscription_id") == ("Pro", "subscription", SUBSCRIPTION)
        await until_read(database, EXPIRED, 2)
    assert (await schema.install(settings)).done == []


async def test_a_type_that_cannot_hold_what_is_to_be_written_is_said(reference_table: Database) -> None:
    reference_table.run("CREATE TYPE state AS ENUM ('active', 'paused')")
    settings = await installed(reference_table)
    async with running(settings) as daemon:
        await until(daemon, "ready", True)
        reference_table.run("ALTER TABLE user_credits ALTER COLUMN status TYPE state USING status::state")
        await until_unready(daemon, "column status .* has no value 'expired'")
        reference_table.run("ALTER TYPE state ADD VALUE 'expired'")
        await until_mended(daemon)
    assert (await schema.install(settings)).done == []


async def test_a_column_that_is_rewritten_means_everyone(reference_table: Database) -> None:
    settings = await installed(reference_table)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        reference_table.run(ADD, [USER, 10])
        await sink.until_credits(USER, 10)
        await until(daemon, "state", "leading")
        before = await fingerprint(daemon)
        # A rewrite fires no trigger.
        reference_table.run("ALTER TABLE user_credits ALTER COLUMN credits TYPE integer USING credits * 2")
        await sink.until_credits(USER, 20)
        reference_table.run(SPEND)
        await sink.until_credits(USER, 19)
        await fingerprint(daemon, other_than=before)
        await until_mended(daemon)
    assert (await schema.install(settings)).done == []


async def test_a_label_of_an_enum_that_is_renamed_means_everyone(database: Database) -> None:
    database.run("CREATE TYPE state AS ENUM ('active', 'expired')")
    database.run("CREATE TABLE user_credits (user_id uuid, credits int, status state)")
    settings = await installed(database)
    sink = MemorySink()
    async with running(settings, sink):
        database.run(ADD, [USER, 10])
        await sink.until_credits(USER, 10)
        database.run("ALTER TYPE state RENAME VALUE 'active' TO 'live'")
        await sink.until_credits(USER, 0)


async def test_what_gets_a_new_type_fails_no_write_of_the_applications(reference_table: Database) -> None:
    settings = await installed(reference_table)
    async with Line.settled(settings) as line:
        reference_table.run("ALTER TABLE user_credits ALTER COLUMN user_id TYPE text")
        reference_table.run(ADD, ["no uuid", 1])
        reference_table.run("UPDATE user_credits SET user_id = %s", [USER])
        reference_table.run("DELETE FROM user_credits")
        assert await line.marked() == [USER]  # and everyone, by what was no uuid
    assert reference_table.run("SELECT DISTINCT cause FROM creditsd.resyncs") == [("column changed",)]


@pytest.mark.parametrize(
    ("before", "after", "using", "ids"),
    [
        ("uuid", "text", "user_id::text", {USER: 10, OTHER: 5}),
        ("text", "uuid", "user_id::uuid", {USER: 10, OTHER: 5}),
        ("bigint", "text", "'user ' || user_id", {"1": 10, "2": 5}),
        ("text", "bigint", "user_id::bigint", {"1": 10, "01": 5}),
        ("integer", "bigint", "user_id + 5000000000", {"1": 10, "2": 5}),
        ("text", 'text COLLATE "C"', "user_id", {"a": 10, "B": 5}),
    ],
)
async def test_a_user_id_of_another_type_is_followed_by_an_install(
    database: Database, before: str, after: str, using: str, ids: dict[str, int]
) -> None:
    database.run(REFERENCE_TABLE.replace("user_id uuid", f"user_id {before}"))
    settings = await installed(database, history={"days": 1})
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        for name, amount in ids.items():
            database.run(ADD, [name, amount])
            await sink.until_credits(name, amount)
        if before == "text":
            database.run("INSERT INTO creditsd.repairs VALUES ('gone')")
            database.run("INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, last_error) "
                         "VALUES ('cache', 'gone', 1, 9, 'dead')")  # fmt: skip
        database.run(f"ALTER TABLE user_credits ALTER COLUMN user_id TYPE {after} USING {using}")
        database.run(SPEND)
        await until(daemon, "ready", False)
        done = (await schema.install(settings)).done
        assert f"gave user_id the type {after.split(maxsplit=1)[0]}" in done
        truth: list[tuple[Any, ...]] = database.run(TRUTH)
        for name, amount in truth:
            await sink.until_credits(name, amount)
        await until_mended(daemon)
        database.run(SPEND)
        for name, amount in database.run(TRUTH):
            await sink.until_credits(name, amount)
    assert (await schema.install(settings)).done == []
    kinds = database.run(
        "SELECT DISTINCT format_type(atttypid, -1), attcollation FROM pg_attribute AS a JOIN pg_class AS c "
        "ON c.oid = attrelid WHERE attname = 'user_id' AND relkind IN ('r', 'p') AND relname <> 'former' "
        "AND relnamespace IN ('creditsd'::regnamespace, 'public'::regnamespace)"
    )
    assert len(kinds) == 1
    assert database.run("SELECT count(*) FROM creditsd.balances WHERE credits <> 0") == [(len(truth),)]
    assert database.run("SELECT count(*) FROM pg_policies WHERE schemaname = 'creditsd'") == [(2,)]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (VIRTUAL, r"column user_id .* is generated and VIRTUAL, which is null in a trigger: make it STORED"),
        (GENERATED, r"column status .* is generated, so no empty plan can be set to 'expired': set expire_empty"),
    ],
)
async def test_a_generated_column_that_cannot_be_used_is_refused(database: Database, table: str, says: str) -> None:
    if table == VIRTUAL and database.server.version < 18:
        pytest.skip("there are no virtual columns before 18")
    database.run(table)
    with pytest.raises(SchemaError, match=says):
        await installed(database)
    assert database.run("SELECT to_regnamespace('creditsd') IS NULL") == [(True,)]


async def test_a_generated_status_is_fine_where_nothing_is_expired(database: Database) -> None:
    database.run(GENERATED)
    settings = await installed(database, expire_empty="off")
    async with Line.settled(settings) as line:
        database.run("INSERT INTO user_credits VALUES ('a', 3)")
        assert [total.credits for total in await line.settle()] == [3]


async def test_generated_columns_that_are_stored_or_only_read_are_fine(database: Database) -> None:
    how = "VIRTUAL" if database.server.version >= 18 else "STORED"
    database.run(
        "CREATE TABLE user_credits (org text, spent int, user_id text GENERATED ALWAYS AS (org || ':1') STORED, "
        f"credits int GENERATED ALWAYS AS (10 - spent) {how}, status text)"
    )
    settings = await installed(database)
    async with Line.settled(settings) as line:
        database.run("INSERT INTO user_credits VALUES ('a', 3, DEFAULT, DEFAULT, 'active')")
        assert {total.user_id: total.credits for total in await line.settle()} == {"a:1": 7}


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE user_credits ADD COLUMN note text DEFAULT 'none'",
        "ALTER TABLE user_credits DROP COLUMN id",
        "CREATE INDEX ON user_credits (membership)",
        "VACUUM FULL user_credits",
        "ANALYZE user_credits",
        "VACUUM FULL pg_trigger",
        "VACUUM FULL pg_attribute",
        "VACUUM FREEZE pg_proc",
        (
            "CREATE TRIGGER theirs BEFORE UPDATE ON user_credits FOR EACH ROW "
            "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        ),
        "CREATE TABLE elsewhere (user_id uuid)",
    ],
)
async def test_what_hides_no_change_means_nobody(reference_table: Database, change: str) -> None:
    settings = await installed(reference_table)
    reference_table.run(ADD, [USER, 10])
    async with Line.settled(settings) as line:
        reference_table.run(change)
        assert (await line.change_reader.resume()).resyncing is None
    assert (await schema.install(settings)).done == []
