"""The settings of the table and of its totals: names, words, types, times, policies."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import pytest
from psycopg import errors

from creditsd.admin.inspect import Inspector
from creditsd.domain.errors import SchemaError
from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import OTHER, USER, Line, configured, installed, said
from tests.integration.shapes import (
    ODD_TABLE,
    REFERENCE,
    Installed,
    put,
    skip_without_icu,
)
from tests.servers import REFERENCE_TABLE, Reachable

# The settings.


@pytest.mark.parametrize(
    ("policy", "rows", "expected"),
    [
        ("no_active_subscription", [{"plan_type": "subscription"}], False),
        ("no_active_subscription", [{}], True),
        ("no_credits", [{"plan_type": "subscription"}], False),
        ("no_credits", [{"plan_type": "subscription", "credits": 0}], True),
        ("no_credits", [{}], False),
        ("no_credits", [], True),
        ("always", [{"plan_type": "subscription"}], True),
    ],
)
async def test_who_can_buy_is_a_policy(
    reference: Installed, policy: str, rows: list[dict[str, Any]], expected: bool
) -> None:
    name = REFERENCE.new_user()
    settings = configured(reference.database, can_buy=policy)
    async with Line.settled(settings) as line, reference.database.connect() as application:
        for row in rows:
            await put(application, name, row)
        published = await line.settle()
        assert [total.can_buy for total in published] == [expected] * len(published)
        async with Inspector.opened(settings, purpose="test") as inspector:
            assert (await inspector.total(name)).can_buy is expected


@pytest.mark.parametrize(("expire_empty", "status"), [("on", "expired"), ("dry_run", "active"), ("off", "active")])
async def test_empty_one_time_plans_are_expired_only_when_that_is_on(
    reference: Installed, expire_empty: str, status: str
) -> None:
    name = REFERENCE.new_user()
    settings = configured(reference.database, expire_empty=expire_empty)
    async with Line.settled(settings) as line, reference.database.connect() as application:
        row = await put(application, name, {"credits": 0})
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status") == (0, status)
        assert total.cause == ("auto-expire" if expire_empty == "on" else "change")
        after = await application.execute("SELECT status FROM user_credits WHERE id = %s", [row])
        assert await after.fetchone() == (status,)
        await application.execute("DELETE FROM user_credits WHERE id = %s", [row])
        await line.settle()


HOUR = "interval '1 hour'"
LATER = f"UPDATE creditsd.balances SET empty_since = empty_since - {HOUR}, recheck_at = recheck_at - {HOUR}"


async def test_an_empty_plan_stands_for_as_long_as_the_setting_says_since_the_users_last_change(
    reference_table: Database,
) -> None:
    settings = await installed(reference_table, expire_empty_after_seconds=3000)

    def statuses() -> list[tuple[str, int]]:
        return reference_table.run("SELECT status, credits FROM user_credits ORDER BY id")

    async with Line.settled(settings) as line, reference_table.connect() as application:
        row = await put(application, USER, {"credits": 0})
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status", "cause") == (0, "expired", "change")  # it counts no more
        assert statuses() == [("active", 0)]
        await line.recomputer.recompute([USER], cause="repair", republish=False)
        assert statuses() == [("active", 0)]
        reference_table.run(LATER)  # the time is over, but here is a change
        await put(application, USER, {"credits": 5})
        await line.settle()
        assert statuses() == [("active", 0), ("active", 5)]
        await application.execute("UPDATE user_credits SET credits = 7 WHERE id = %s", [row])
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status") == (12, "active")
        assert reference_table.run("SELECT empty_since FROM creditsd.balances") == [(None,)]
        await application.execute("UPDATE user_credits SET credits = 0 WHERE id = %s", [row])
        assert [total.credits for total in await line.settle()] == [5]
        reference_table.run(LATER)
        assert await line.settle() == []  # nothing changes for whoever is told
        assert statuses() == [("expired", 0), ("active", 5)]
        assert reference_table.run("SELECT empty_since, recheck_at FROM creditsd.balances") == [(None, None)]


async def test_what_is_first_seen_empty_by_a_backfill_stands_as_long(reference_table: Database) -> None:
    reference_table.run(
        f"INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES ('{USER}', 0, 'active', 'one_time')"
    )
    async with Line.settled(await installed(reference_table, expire_empty_after_seconds=3000)) as line:
        assert reference_table.run("SELECT status FROM user_credits") == [("active",)]
        reference_table.run(LATER)
        await line.settle()
        assert reference_table.run("SELECT status FROM user_credits") == [("expired",)]


@pytest.mark.parametrize(("seconds", "serializes"), [(0, False), (3000, True)])
async def test_a_snapshot_that_is_older_than_the_expiry_can_still_write_what_it_has_just_emptied(
    reference_table: Database, seconds: float, serializes: bool
) -> None:
    settings = await installed(reference_table, expire_empty_after_seconds=seconds)
    async with Line.settled(settings) as line, reference_table.connect() as application:
        row = await put(application, USER, {"credits": 5})
        await application.execute("UPDATE user_credits SET credits = 0 WHERE id = %s", [row])
        await application.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await application.execute("SELECT FROM user_credits")
        await line.settle()
        again = application.execute("UPDATE user_credits SET credits = 3 WHERE id = %s", [row])
        if serializes:
            await again
            await application.execute("COMMIT")
            assert [total.credits for total in await line.settle()] == [3]
        else:
            with pytest.raises(errors.SerializationFailure):
                await again
            await application.execute("ROLLBACK")


@pytest.mark.parametrize("expire_empty", ["on", "dry_run", "off"])
async def test_a_one_time_plan_below_zero_is_a_debt_that_counts_and_is_left_alone(
    reference: Installed, expire_empty: str
) -> None:
    name = REFERENCE.new_user()
    settings = configured(reference.database, expire_empty=expire_empty)
    async with Line.settled(settings) as line, reference.database.connect() as application:
        await put(application, name, {"credits": 100, "plan_type": "subscription"})
        row = await put(application, name, {"credits": -20})
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status", "cause") == (80, "active", "change")
        after = await application.execute("SELECT status FROM user_credits WHERE id = %s", [row])
        assert await after.fetchone() == ("active",)
        async with Inspector.opened(settings, purpose="test") as inspector:
            explained = await inspector.explain(name)
            assert [(int(each.credits or 0), each.counts) for each in explained.rows] == [(100, True), (-20, True)]
        await application.execute("DELETE FROM user_credits WHERE user_id = %s", [name])
        await line.settle()


async def test_identifiers_and_words_are_settings(database: Database) -> None:
    database.run('CREATE SCHEMA "My ""Shop"""')
    database.run(
        f'CREATE TABLE {ODD_TABLE} ("Id" serial PRIMARY KEY, "User" uuid, "select" integer, "the State" text, '
        '"{kind}" text, "%name" text, "Sub""Id" text, "Until" timestamptz, "Since" timestamptz DEFAULT now())'
    )
    settings = await installed(
        database,
        source={
            "table": ODD_TABLE,
            "columns": {
                "user_id": "User",
                "credits": "select",
                "status": "the State",
                "plan_type": "{kind}",
                "membership": "%name",
                "subscription_id": 'Sub"Id',
                "expires_at": "Until",
                "created_at": "Since",
            },
            "active_statuses": ["it's on", 'quoted "on"', "{b,c}", "back\\slash"],
            "expired_status": "it's off",
            "subscription_types": ["abo'nnement", "x,y"],
            "one_time_types": ["pack%s"],
        },
    )
    rows = [
        (5, "it's on", "abo'nnement", "Pro", "sub'1"),
        (6, 'quoted "on"', "x,y", None, None),
        (7, "{b,c}", None, None, None),
        (8, "back\\slash", None, None, None),
        (9, "active", "subscription", None, None),
        (0, "it's on", "pack%s", None, None),
    ]
    async with database.connect() as application, Line.settled(settings) as line:
        for row in rows:
            await application.execute(
                f"INSERT INTO {ODD_TABLE}".replace("%", "%%")
                + ' ("User", "select", "the State", "{kind}", "%%name", "Sub""Id") VALUES (%s, %s, %s, %s, %s, %s)',
                [USER, *row],
            )
        (total,) = await line.settle()
        assert said(total, "credits", "plan_type", "membership", "cause") == (26, "subscription", None, "auto-expire")
        after = await application.execute(f'SELECT "the State" FROM {ODD_TABLE} ORDER BY "Id"')
        assert (await after.fetchall())[-1] == ("it's off",)
        await application.execute(f'UPDATE {ODD_TABLE} SET "Until" = now() WHERE "Id" = 2')
        (total,) = await line.settle()
        assert said(total, "credits", "membership", "subscription_id") == (20, "Pro", "sub'1")


@pytest.mark.parametrize(
    ("type_", "written", "opening"),
    [
        ("text", "{}", ""),
        ("varchar", "{}", ""),
        ("char(2000000)", "{}", ""),
        ("wording", "{}", ""),
        ("json", "to_json({})", '"'),
        ("jsonb", "to_jsonb({})", '"'),
        ("text[]", "ARRAY[{}]", "{"),
        ("wordings", "ROW({})::wordings", "("),
        ("bytea", "convert_to({}, 'UTF8')", "\\x"),
    ],
)
async def test_a_plan_of_many_megabytes_is_cut_with_a_mark(
    database: Database, type_: str, written: str, opening: str
) -> None:
    database.run("CREATE DOMAIN wording AS text; CREATE TYPE wordings AS (words text)")
    database.run(REFERENCE_TABLE.replace("membership text", f"membership {type_}"))
    long_plan, short_plan = written.format("repeat('ä', 2000000)"), written.format("'Pro'::text")
    async with Line.settled(await installed(database)) as line:
        database.run(
            "INSERT INTO user_credits (user_id, credits, status, membership, subscription_id) VALUES "
            f"(%s, 5, 'active', {long_plan}, repeat('x', 1000)), (%s, 6, 'active', {short_plan}, repeat('y', 1001))",
            [USER, OTHER],
        )
        totals = {total.user_id: said(total, "membership", "subscription_id") for total in await line.settle()}
    ((short,),) = database.run("SELECT membership::text FROM user_credits WHERE user_id = %s", [OTHER])
    long = opening + ("c3a4" * 500 if type_ == "bytea" else "ä" * 1000)
    assert totals == {USER: (long[:1000] + "...", "x" * 1000), OTHER: (short, "y" * 1000 + "...")}


async def test_a_table_of_three_columns_is_enough(database: Database) -> None:
    database.run("CREATE TABLE user_credits (user_id bigint, credits integer, status text)")
    settings = await installed(database)
    async with Line.settled(settings) as line:
        database.run(
            "INSERT INTO user_credits VALUES (1, 5, 'active'), (1, 0, 'active'), (1, 7, 'expired'), (2, 1, 'x')"
        )
        first, second = sorted(await line.settle(), key=lambda total: total.user_id)
        assert said(first, "credits", "membership_status", "plan_type") == (5, "active", "none")
        assert said(second, "credits", "membership_status") == (0, "expired")
        assert said(first, "membership", "subscription_id", "expires_at") == (None, None, None)
        assert database.run("SELECT count(*) FROM user_credits WHERE status = 'active'") == [(2,)]


async def test_optional_columns_can_be_said_to_be_missing(reference_table: Database) -> None:
    columns = dict.fromkeys(["plan_type", "membership", "subscription_id", "expires_at", "created_at"], "")
    settings = await installed(reference_table, source={"columns": columns})
    async with Line.settled(settings) as line, reference_table.connect() as application:
        await put(application, USER, {"plan_type": "subscription", "membership": "Pro", "expires_in_seconds": -60})
        (total,) = await line.settle()
        assert said(total, "credits", "plan_type", "membership") == (10, "none", None)
        await application.execute("UPDATE user_credits SET membership = 'x', expires_at = now()")
        assert await line.settle() == []


@pytest.mark.parametrize(
    ("type_", "timezone", "ends"),
    [
        ("timestamp", "UTC", "2999-12-31T00:00:00Z"),
        ("timestamp", "America/New_York", "2999-12-31T05:00:00Z"),
        ("date", "UTC", "3000-01-01T00:00:00Z"),
        ("date", "America/New_York", "3000-01-01T05:00:00Z"),
        ("timestamptz", "America/New_York", "2999-12-30T11:00:00Z"),
    ],
)
async def test_times_without_a_zone_are_read_in_the_one_that_is_set_and_a_date_counts_through_its_day(
    database: Database, type_: str, timezone: str, ends: str
) -> None:
    database.run(f"CREATE TABLE user_credits (user_id int, credits smallint, status text, expires_at {type_})")
    database.run(f"ALTER DATABASE {database.name} SET timezone = 'Pacific/Auckland'")
    settings = configured(database, source={"timezone": timezone})
    told = [note for note in (await schema.install(settings)).notes if "time zone" in note]
    assert told == (
        []
        if type_ == "timestamptz"
        else [f"expires_at of public.user_credits says no time zone: read as {timezone} (source.timezone)"]
    )
    async with Line.settled(settings) as line:
        database.run("INSERT INTO user_credits VALUES (1, 5, 'active', '2999-12-31')")
        (total,) = await line.settle()
        assert total.expires_at == datetime.fromisoformat(ends)


async def test_a_time_zone_that_nobody_knows_is_refused(database: Database) -> None:
    database.run("CREATE TABLE user_credits (user_id int, credits smallint, status text, expires_at date)")
    with pytest.raises(SchemaError, match=r"knows no time zone 'Europe/Pariss': set source\.timezone"):
        await installed(database, source={"timezone": "Europe/Pariss"})


@pytest.mark.parametrize("type_", ["timestamp", "date", "timestamptz"])
async def test_times_beyond_all_years_stop_nobody(database: Database, type_: str) -> None:
    database.run(f"CREATE TABLE user_credits (user_id int, credits int, status text, expires_at {type_})")
    latest = "5874000-01-01" if type_ == "date" else "294000-01-01"
    async with Line.settled(await installed(database, source={"timezone": "Asia/Tokyo"})) as line:
        for user_id, ends in enumerate((latest, "infinity", "-infinity", "0044-03-15 BC", "4700-01-01 BC")):
            database.run("INSERT INTO user_credits VALUES (%s, 5, 'active', %s)", [user_id, ends])
        stored = {total.user_id: said(total, "credits", "expires_at") for total in await line.settle()}
        assert stored == {"0": (5, None), "1": (5, None)} | {str(each): (0, None) for each in (2, 3, 4)}


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_a_database_of_another_encoding_works_all_the_way(postgres_server: Reachable, encoding: str) -> None:
    name = f"encoded_{encoding.lower()}_{os.getpid()}_{postgres_server.version}"
    with postgres_server.connect() as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    database = Database(postgres_server, name, postgres_server.dsn(name, client_encoding="utf8"))
    try:
        database.run("CREATE TABLE user_credits (user_id text, credits int, status text, membership text)")
        plain = Database(postgres_server, name, postgres_server.dsn(name))
        async with Line.settled(await installed(plain)) as line:
            for user_id in ("a", "é", "z"):
                database.run("INSERT INTO user_credits VALUES (%s, 5, 'active', 'Crédit')", [user_id])
            await line.settle(max_users=1)
            assert await line.stored() == dict.fromkeys(("a", "é", "z"), 5)
            async with Inspector.opened(configured(plain), purpose="test") as inspector:
                assert (await inspector.total("é")).membership == "Crédit"
    finally:
        postgres_server.drop_database(name)


@pytest.mark.parametrize(
    ("type_", "names"),
    [
        ("varchar(36)", ["A", "a", "b"]),
        ("char(8)", ["A", "a", "b"]),
        ("public.id_of_user", ["A", "a", "b"]),
        ('"Own Types"."Id"', ["1", "2", "3"]),
        ('text COLLATE "C"', ["A", "a", "b"]),
        ('text COLLATE "en-x-icu"', ["A", "a", "b"]),
        ("smallint", ["1", "2", "10"]),
    ],
)
async def test_user_ids_of_other_types_work_all_the_way(database: Database, type_: str, names: list[str]) -> None:
    if "icu" in type_:
        skip_without_icu(database)
    database.run("CREATE DOMAIN public.id_of_user AS text CHECK (length(VALUE) < 40)")
    database.run('CREATE SCHEMA "Own Types"')
    database.run('CREATE DOMAIN "Own Types"."Id" AS bigint')
    database.run(f"CREATE TABLE user_credits (user_id {type_}, credits integer, status text, plan_type text)")
    settings = await installed(database)
    async with database.connect() as application, Line.opened(settings) as line:
        for number, name in enumerate(names):
            await application.execute("INSERT INTO user_credits VALUES (%s, %s, 'active')", [name, number])
        await line.settle(max_users=1)
        assert await line.stored() == {name: number for number, name in enumerate(names)}
        for name in names:
            await application.execute("INSERT INTO user_credits VALUES (%s, 0, 'active', 'one_time')", [name])
            await application.execute("UPDATE user_credits SET credits = credits + 10 WHERE plan_type IS NULL")
        await line.settle(max_users=1)
        assert await line.stored() == {name: number + 30 for number, name in enumerate(names)}
        left = await application.execute("SELECT DISTINCT status FROM user_credits WHERE plan_type IS NOT NULL")
        assert await left.fetchall() == [("expired",)]
        async with Inspector.opened(settings, purpose="test") as inspector:
            assert (await inspector.total(names[1])).credits == 31
        await application.execute("DELETE FROM user_credits")
        await line.connection.execute("SELECT creditsd.begin_resync('test')")
        await line.settle(max_users=1)
        assert await line.stored() == dict.fromkeys(names, 0)
        await line.change_reader.save()
        assert await line.change_reader.purge(line.connection, 1000, None) is None
        assert (await (await application.execute("SELECT count(*) FROM creditsd.changes")).fetchone()) == (0,)


@pytest.mark.parametrize("type_", ["citext", "text COLLATE public.caseless"])
async def test_a_user_id_that_ignores_case_is_refused(database: Database, type_: str) -> None:
    if type_ == "citext":
        if not database.run("SELECT FROM pg_available_extensions WHERE name = 'citext'"):
            pytest.skip("this server has no citext")
        database.run("CREATE EXTENSION citext")
    else:
        skip_without_icu(database)
        database.run("CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    database.run(f"CREATE TABLE user_credits (user_id {type_}, credits integer, status text)")
    with pytest.raises(SchemaError, match=r"user_id of public\.user_credits (is public\.citext|has the collation)"):
        await installed(database)
