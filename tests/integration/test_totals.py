"""The rules of the total: every golden case, on every shape of table, with every setting."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection, sql

from creditsd.admin.inspect import Inspector
from creditsd.config.settings import Settings
from creditsd.domain.errors import InputError, SchemaError
from creditsd.domain.total import Total, encode
from tests.conftest import Database
from tests.integration.line import OTHER, USER, Line, configured, installed, said, user
from tests.servers import Reachable

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "cases" / "totals.json").read_text())["cases"]

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Shape:
    """The types a table may have."""

    user_id: str = "uuid"
    credits: str = "integer"
    status: str = "text"

    def __str__(self) -> str:
        return f"{self.user_id}-{self.credits}-{self.status}"

    def new_user(self) -> str:
        number = next(_numbers)
        return {"uuid": user(number), "bigint": str(number)}.get(self.user_id, f"Ünal's “{number}”")


REFERENCE = Shape()
SHAPES = [
    Shape(user_id, credits_, status)
    for user_id, status in (("uuid", "varchar(20)"), ("text", "public.standing"), ("bigint", "public.word"))
    for credits_ in ("integer", "bigint", "numeric")
]
ODD_TABLE = '"My ""Shop""" . "User\'s Credits %s {x}"'


@dataclass(frozen=True, slots=True)
class Installed:
    """A database that many tests share, each with users of its own."""

    database: Database
    settings: Settings
    shape: Shape


class Shapes:
    """One database a version, whose table is made anew for each shape in turn: that is quicker than a new database."""

    def __init__(self, server: Reachable) -> None:
        name = f"totals_{os.getpid()}_{server.version}"
        self._database = Database(server, name, server.create_database(name))
        self._made: Installed | None = None

    async def get(self, shape: Shape) -> Installed:
        if self._made is None or self._made.shape != shape:
            database = self._database
            database.run("DROP SCHEMA IF EXISTS creditsd CASCADE; DROP TABLE IF EXISTS public.user_credits")
            database.run("DROP TYPE IF EXISTS public.standing; DROP DOMAIN IF EXISTS public.word")
            database.run("CREATE TYPE public.standing AS ENUM ('active', 'expired', 'cancelled', 'frozen')")
            database.run("CREATE DOMAIN public.word AS varchar(20) CHECK (VALUE <> '')")
            database.run(
                f"CREATE TABLE public.user_credits (id serial PRIMARY KEY, user_id {shape.user_id}, "
                f"credits {shape.credits}, status {shape.status}, plan_type text, membership text, "
                "subscription_id text, expires_at timestamptz, created_at timestamptz DEFAULT now())"
            )
            database.run("CREATE INDEX ON public.user_credits (user_id)")
            self._made = Installed(database, await installed(database), shape)
        return self._made

    def close(self) -> None:
        self._database.server.drop_database(self._database.name)


@pytest.fixture(scope="module")
def shapes(postgres_server: Reachable) -> Iterator[Shapes]:
    made = Shapes(postgres_server)
    yield made
    made.close()


@pytest.fixture
async def reference(shapes: Shapes) -> Installed:
    """The reference table, installed, shared by the tests of a version."""
    return await shapes.get(REFERENCE)


async def put(
    connection: AsyncConnection[tuple[Any, ...]], user_id: str | None, row: Mapping[str, Any], *, type_: str = "uuid"
) -> int:
    """Insert a row as the golden cases write it; return its id."""
    statement = sql.SQL(
        "INSERT INTO public.user_credits (user_id, credits, status, plan_type, membership, subscription_id, "
        "expires_at, created_at) VALUES (%(user)s::text::{type}, %(credits)s, %(status)s, %(plan_type)s, "
        "%(membership)s, %(subscription_id)s, now() + %(ends)s, now() - %(age)s) RETURNING id"
    ).format(type=sql.SQL(type_))
    ends = row.get("expires_in_seconds")
    values = {
        "credits": 10,
        "status": "active",
        "plan_type": "one_time",
        "membership": None,
        "subscription_id": None,
        **row,
        "user": user_id,
        "ends": None if ends is None else timedelta(seconds=ends),
        "age": timedelta(seconds=row.get("created_seconds_ago", 0)),
    }
    found = await (await connection.execute(statement, values)).fetchone()
    assert found is not None
    return int(found[0])


def skip_without_icu(database: Database) -> None:
    if not database.run("SELECT FROM pg_collation WHERE collname = 'en-x-icu'"):
        pytest.skip("this server was built without ICU")


def matches(total: Total, expected: Mapping[str, Any], began: datetime) -> None:
    document = json.loads(total.json())
    for key in expected.keys() - {"expires_in_seconds"}:
        assert document[key] == expected[key], key
    ends = expected["expires_in_seconds"]
    if ends is None:
        assert total.expires_at is None
    else:
        assert total.expires_at is not None
        assert abs(total.expires_at - (began + timedelta(seconds=ends))) < timedelta(seconds=30)


async def hold(installation: Installed, cases: Sequence[Mapping[str, Any]]) -> None:
    """Give each case a user, and see that `get`, the daemon and the rows' own statuses agree with it."""
    database, settings, shape = installation.database, installation.settings, installation.shape
    users = {shape.new_user(): case for case in cases}
    async with database.connect() as application, Inspector.opened(settings, purpose="test") as inspector:
        (began,) = (await (await application.execute("SELECT now()")).fetchone()) or ()
        ids = {
            name: [await put(application, name, row, type_=shape.user_id) for row in case["rows"]]
            for name, case in users.items()
        }
        for name, case in users.items():
            matches(await inspector.total(name), case["expect"], began)
        async with Line.opened(settings) as line:
            published = {total.user_id: total for total in await line.settle()}
        for name, case in users.items():
            matches(await inspector.total(name), case["expect"], began)
            stored = await inspector.stored(name)
            assert (name in published) == (stored is not None) == bool(case["rows"])
            if stored is not None:
                matches(stored, case["expect"], began)
                assert stored == published[name]
            query = "SELECT status::text FROM public.user_credits WHERE id = ANY (%s) ORDER BY id"
            after = await (await application.execute(query, [ids[name]])).fetchall()
            assert [status for (status,) in after] == case["expect_status_after"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"].replace(" ", "-") for case in CASES])
async def test_a_case_of_the_contract_holds(reference: Installed, case: Mapping[str, Any]) -> None:
    await hold(reference, [case])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
async def test_every_case_holds_on_every_shape_of_table(shapes: Shapes, shape: Shape) -> None:
    await hold(await shapes.get(shape), CASES)


# What no table should hold, and some do.


async def test_a_row_without_a_user_is_nobodys_and_its_write_does_not_fail(reference: Installed) -> None:
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, None, {})
        await application.execute("UPDATE user_credits SET credits = 7 WHERE id = %s", [row])
        await application.execute("DELETE FROM user_credits WHERE id = %s", [row])
        await put(application, None, {})
        assert await line.settle() == []
        await line.connection.execute("SELECT creditsd.begin_resync('test')")
        assert await line.settle() == []


async def test_a_row_that_is_given_to_a_user_counts_from_then_on(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, None, {"credits": 7})
        await application.execute("UPDATE user_credits SET user_id = %s WHERE id = %s", [name, row])
        assert {total.user_id: total.credits for total in await line.settle()} == {name: 7}


async def test_a_row_without_credits_adds_nothing_and_its_write_does_not_fail(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        await put(application, name, {"credits": 7})
        await put(application, name, {"credits": None})
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status") == (7, "active")
        left = await application.execute("SELECT status FROM user_credits WHERE user_id = %s", [name])
        assert await left.fetchall() == [("active",), ("active",)]


async def test_a_row_without_a_status_does_not_count(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, name, {"status": None, "plan_type": None, "credits": 3})
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status") == (0, "expired")
        await application.execute("UPDATE user_credits SET status = 'active' WHERE id = %s", [row])
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status", "plan_type") == (3, "active", "none")


@pytest.mark.parametrize("worthless", ["NaN", "Infinity", "-Infinity"])
async def test_credits_that_are_no_number_add_nothing(shapes: Shapes, worthless: str) -> None:
    shape = Shape("uuid", "numeric")
    made, name = await shapes.get(shape), shape.new_user()
    async with Line.settled(made.settings) as line, made.database.connect() as application:
        await put(application, name, {"credits": Decimal("7.5")})
        row = await put(application, name, {"credits": Decimal(worthless)})
        (total,) = await line.settle()
        assert total.credits == Decimal("7.5")
        assert b'"credits":7.5,' in total.json()
        left = await application.execute("SELECT status FROM user_credits WHERE id = %s", [row])
        assert await left.fetchall() == [("active",)]


async def test_a_large_number_is_never_rounded(shapes: Shapes) -> None:
    shape = Shape("uuid", "numeric")
    made, name = await shapes.get(shape), shape.new_user()
    async with Line.settled(made.settings) as line, made.database.connect() as application:
        await put(application, name, {"credits": Decimal("123456789012345678901234567890.123456789")})
        await put(application, name, {"credits": Decimal("0.000000000000000000000000000001000")})
        (total,) = await line.settle()
        digits = b'"credits":123456789012345678901234567890.123456789000000000000000000001,'
        assert digits in total.json()
        await put(application, name, {"credits": 1})
        (total,) = await line.settle()
        assert total.previous is not None
        assert str(total.previous["credits"]) == "123456789012345678901234567890.123456789000000000000000000001"


@pytest.mark.parametrize("never", ["infinity", "20000-01-01 00:00:00+00", "9999-12-31 00:00:00+00"])
async def test_an_end_beyond_any_calendar_never_comes(reference: Installed, never: str) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, name, {"credits": 7, "plan_type": "subscription"})
        await application.execute("UPDATE user_credits SET expires_at = %s::timestamptz WHERE id = %s", [never, row])
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status", "expires_at") == (7, "active", None)
        assert await line.settle() == []


@pytest.mark.parametrize("past", ["-infinity", "4000-01-01 BC", "0001-01-01 00:00:00+00"])
async def test_an_end_before_any_calendar_has_come(reference: Installed, past: str) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, name, {"credits": 7, "plan_type": "subscription"})
        statement = "UPDATE user_credits SET expires_at = %s::timestamptz, created_at = %s::timestamptz WHERE id = %s"
        await application.execute(statement, [past, past, row])
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status", "has_ever_had_subscription") == (0, "expired", True)
        async with Inspector.opened(reference.settings, purpose="test") as inspector:
            assert not (await inspector.explain(name)).rows[0].counts


# What is published.


async def test_an_unchanged_total_publishes_nothing(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, name, {"credits": 7})
        (total,) = await line.settle()
        await application.execute("UPDATE user_credits SET credits = 8 WHERE id = %s", [row])
        await application.execute("UPDATE user_credits SET credits = 7 WHERE id = %s", [row])
        assert await line.settle() == []
        await line.connection.execute("SELECT creditsd.begin_resync('test')")
        assert await line.settle() == []
        async with Inspector.opened(reference.settings, purpose="test") as inspector:
            assert (await inspector.total(name)).version == total.version


async def test_the_total_before_comes_with_the_total(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, name, {"credits": 7, "expires_in_seconds": 3600})
        (first,) = await line.settle()
        assert first.previous is None
        await application.execute("UPDATE user_credits SET credits = 6 WHERE id = %s", [row])
        (second,) = await line.settle()
    before = json.loads(first.json())
    assert second.previous is not None
    assert set(second.previous) == set(before) - {"user_id", "message"}
    told = json.loads(encode(second.previous))
    assert told == {key: before[key] for key in told}


async def test_versions_grow_in_the_order_of_commits_over_all_users(reference: Installed) -> None:
    names = [REFERENCE.new_user() for _ in range(5)]
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        seen: list[Total] = []
        for name in names * 3:
            await put(application, name, {})
            seen += await line.settle()
        assert len(seen) == 15
        versions = [total.version for total in seen]
        assert versions == sorted(set(versions))
        query = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
        found = await (await application.execute(query)).fetchone()
        assert found is not None
        assert found[0] - 60_000_000 < versions[0] < versions[-1] <= found[0]
        assert versions[-1] < 2**53


async def test_a_version_grows_even_when_the_clock_went_back(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        await put(application, name, {})
        (first,) = await line.settle()
        ahead = first.version + 3_600_000_000
        await application.execute("UPDATE creditsd.balances SET version = %s WHERE user_id = %s", [ahead, name])
        await put(application, name, {})
        (second,) = await line.settle()
        assert second.version == ahead + 1
        await application.execute("DELETE FROM creditsd.balances WHERE user_id = %s", [name])


async def test_a_subscription_is_remembered_after_its_rows_are_gone(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        await put(application, name, {"plan_type": "subscription", "credits": 7})
        await line.settle()
        await application.execute("DELETE FROM user_credits WHERE user_id = %s", [name])
        (total,) = await line.settle()
        assert said(total, "membership_status", "credits", "can_buy") == ("none", 0, True)
        assert total.has_ever_had_subscription
        async with Inspector.opened(reference.settings, purpose="test") as inspector:
            assert (await inspector.total(name)).has_ever_had_subscription
        await put(application, name, {"credits": 1})
        (total,) = await line.settle()
        assert total.has_ever_had_subscription


async def test_nobody_is_an_answer_and_a_misshapen_id_an_error(reference: Installed) -> None:
    async with Inspector.opened(reference.settings, purpose="test") as inspector:
        nobody = "11111111-2222-3333-4444-555555555555"
        assert await inspector.total(nobody) == Total.nothing(nobody)
        assert await inspector.stored(nobody) is None
        with pytest.raises(InputError, match="uuid"):
            await inspector.total("somebody")
        assert await inspector.total(nobody) == Total.nothing(nobody)


async def test_an_explanation_agrees_with_the_total(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        for row in (row for case in CASES for row in case["rows"]):
            await put(application, name, row)
        async with Inspector.opened(reference.settings, purpose="test") as inspector:
            explained = await inspector.explain(name)
            assert explained.total is not None
            assert sum(row.credits or 0 for row in explained.rows if row.counts) == explained.total.credits
            leader = explained.rows[0]
            assert (leader.membership, leader.expires_at) == (explained.total.membership, explained.total.expires_at)
        await line.settle()


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


@pytest.mark.parametrize("type_", ["timestamp", "date"])
async def test_times_without_a_zone_are_utc(database: Database, type_: str) -> None:
    database.run(f"CREATE TABLE user_credits (user_id int, credits smallint, status text, expires_at {type_})")
    database.run(f"ALTER DATABASE {database.name} SET timezone = 'Pacific/Auckland'")
    settings = await installed(database)
    async with Line.settled(settings) as line:
        database.run("INSERT INTO user_credits VALUES (1, 5, 'active', '2999-12-31')")
        (total,) = await line.settle()
        assert total.expires_at == datetime.fromisoformat("2999-12-31T00:00:00Z")


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


async def test_a_user_moves_with_the_row(reference: Installed) -> None:
    one, other = REFERENCE.new_user(), REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, one, {"credits": 7})
        await line.settle()
        await application.execute("UPDATE user_credits SET user_id = %s WHERE id = %s", [other, row])
        found = {total.user_id: total.credits for total in await line.settle()}
        assert found == {one: 0, other: 7}


async def test_users_are_apart(reference_table: Database) -> None:
    settings = await installed(reference_table)
    async with Line.settled(settings) as line, reference_table.connect() as application:
        await put(application, USER, {"credits": 1})
        await put(application, OTHER, {"credits": 2})
        await line.settle()
        assert await line.stored() == {USER: 1, OTHER: 2}
