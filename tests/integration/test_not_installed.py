"""What cannot be watched is refused in one line, and nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from psycopg.conninfo import make_conninfo

from creditsd.admin.doctor import table
from creditsd.daemon.app import Daemon
from creditsd.domain.errors import ConfigError, CreditsdError, DatabaseUnavailable, SchemaError
from creditsd.postgres.connections import connected
from creditsd.schema import install as schema
from tests.conftest import SERVERS, Database, Servers
from tests.integration.line import USER, Line, configured, installed
from tests.integration.schemas import dump
from tests.servers import REFERENCE_TABLE, Postgres


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
        (
            "CREATE TYPE s AS ENUM ('on', 'off'); CREATE TABLE user_credits (user_id uuid, credits int, status s)",
            {},
            r"column status .* has no value 'active' \(it has on, off\): set source\.active_statuses",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, status boolean)",
            {},
            r"has no value 'active' \(it is boolean, and has true and false\): set source\.active_statuses",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, status boolean)",
            {"source": {"active_statuses": ["t"], "expired_status": "false"}},
            r"has no value 't' \(it is boolean, and has true and false\): set source\.active_statuses",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, status boolean)",
            {"source": {"active_statuses": ["true"]}},
            r"has no value 'expired' \(it is boolean, and has true and false\): set source\.expired_status",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, status smallint)",
            {"source": {"active_statuses": ["01"], "expired_status": "0"}},
            r"has no value '01' \(it has whole numbers from -32768 to 32767, .*\): set source\.active_statuses",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, status smallint)",
            {"source": {"active_statuses": ["1"], "expired_status": "32768"}},
            r"has no value '32768' .*: set source\.expired_status",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, status varchar(3))",
            {"source": {"expired_status": "no"}},
            r"has no value 'active' \(it is character varying\(3\), which makes 'act' of it\): set source\.active_st",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, status char(1))",
            {"source": {"active_statuses": ["a"]}},
            r"has no value 'expired' \(it is character\(1\), which makes 'e' of it\): set source\.expired_status",
        ),
        (
            "CREATE DOMAIN short AS varchar(3); CREATE TABLE user_credits (user_id uuid, credits int, status short)",
            {"source": {"expired_status": "no"}},
            r"has no value 'active' \(it is character varying\(3\), which makes 'act' of it\): set source\.active_st",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, status numeric(4,2))",
            {"source": {"active_statuses": ["1"], "expired_status": "0.00"}},
            r"has no value '1' \(it is numeric\(4,2\), which makes '1.00' of it\): set source\.active_statuses",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, status numeric(4,2))",
            {"source": {"active_statuses": ["1.00"], "expired_status": "100.00"}},
            r"has no value '100.00' \(it is numeric\(4,2\)\): set source\.expired_status",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, status real)",
            {"source": {"active_statuses": ["1.0"], "expired_status": "0"}},
            r"has no value '1.0' \(it is real, which makes '1' of it\): set source\.active_statuses",
        ),
        (
            "CREATE TABLE user_credits (user_id uuid, credits int, status double precision)",
            {},
            r"has no value 'active' \(it is double precision\): set source\.active_statuses",
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


@pytest.mark.parametrize(
    ("kind", "words", "never", "why"),
    [
        ("s", ["active", "trialing"], "trialing", "it has active, expired"),
        ("varchar(7)", ["active", "trialing"], "trialing", "it is character varying(7), which makes 'trialin' of it"),
        ("boolean", ["t", "true"], "t", "it is boolean, and has true and false"),
        ("numeric(4,2)", ["1", "1.00"], "1", "it is numeric(4,2), which makes '1.00' of it"),
    ],
)
async def test_where_one_active_word_is_none_of_the_columns_the_others_count(
    database: Database, kind: str, words: list[str], never: str, why: str
) -> None:
    database.run("CREATE TYPE s AS ENUM ('active', 'expired')")
    database.run(f"CREATE TABLE user_credits (user_id uuid, credits int, status {kind}, plan_type text)")
    expired = {"boolean": "false", "numeric(4,2)": "0.00"}.get(kind, "expired")
    settings = configured(database, source={"active_statuses": words, "expired_status": expired})
    said = f"column status of public.user_credits has no value {never!r} ({why}): no row counts by that word of "
    assert (await schema.install(settings)).notes.count(f"{said}source.active_statuses") == 1
    async with connected(settings.dsn, purpose="test") as connection:
        found = await table.examine(connection, settings)
    assert ("note", f"{said}source.active_statuses") in {(each.level, each.said) for each in found}
    async with Line.settled(settings) as line:
        counts = next(word for word in words if word != never)
        database.run("INSERT INTO user_credits VALUES (%s, 5, %s::text::" + kind + ", 'subscription')", [USER, counts])
        assert [total.credits for total in await line.settle()] == [5]


async def test_an_enum_needs_no_expired_value_where_nothing_is_expired(database: Database) -> None:
    database.run("CREATE TYPE s AS ENUM ('active')")
    database.run("CREATE TABLE user_credits (user_id uuid, credits int, status s, plan_type text)")
    settings = await installed(database, expire_empty="off")
    async with Line.settled(settings) as line:
        database.run("INSERT INTO user_credits VALUES (%s, 0, 'active', 'one_time')", [USER])
        assert [total.credits for total in await line.settle()] == [0]


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
