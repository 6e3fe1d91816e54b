"""Several installations in one database: each with a name of its own, and none sees another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import pytest

from creditsd.admin.doctor import examine
from creditsd.admin.inspect import Inspector
from creditsd.admin.installations import listed
from creditsd.config.settings import Settings
from creditsd.domain.errors import NotAgreed, SchemaError
from creditsd.schema import install as schema
from tests.conftest import Database, eventually
from tests.integration.line import USER, MemorySink, configured, installed
from tests.integration.running import running, until
from tests.servers import Valkey

IMAGES = "creditsd_images"
ADD = (
    "INSERT INTO user_credits (user_id, credits, status, plan_type, membership) "
    "VALUES (%s, %s, 'active', 'one_time', %s)"
)

# Wherever the catalog keeps what we have made: the text of it all.
MADE = """
    SELECT p.prosrc || pg_get_functiondef(p.oid) || coalesce(obj_description(p.oid, 'pg_proc'), '')
    FROM pg_proc AS p
    WHERE p.pronamespace = %(schema)s::regnamespace
    UNION ALL
    SELECT pg_get_triggerdef(t.oid) FROM pg_trigger AS t WHERE NOT t.tgisinternal
    UNION ALL
    SELECT pg_get_expr(p.polqual, p.polrelid) FROM pg_policy AS p
    UNION ALL
    SELECT d.description FROM pg_description AS d
    JOIN pg_class AS c ON c.oid = d.objoid
    WHERE c.relnamespace = %(schema)s::regnamespace
    UNION ALL
    SELECT pg_get_viewdef(c.oid) FROM pg_class AS c WHERE c.relkind = 'v' AND c.relnamespace = %(schema)s::regnamespace
"""


def images(database: Database, **more: object) -> Settings:
    """Settings of an installation beside the first, on the same table."""
    return configured(database, schema=IMAGES, **more)


@contextlib.asynccontextmanager
async def two(database: Database, first: Settings, second: Settings) -> AsyncIterator[tuple[MemorySink, MemorySink]]:
    """Install both, and run both daemons, each of which leads."""
    for each in (first, second):
        await schema.install(each)
    sinks = MemorySink(), MemorySink()
    async with running(first, sinks[0]) as one, running(second, sinks[1]) as other:
        for daemon in (one, other):
            await until(daemon, "state", "leading")
        yield sinks


@pytest.fixture(params=["creditsd_images", "images_2", "_"])
def named(request: pytest.FixtureRequest, reference_table: Database) -> Settings:
    return configured(reference_table, schema=request.param, history={"days": 1}, events={"low_credits": 3})


async def test_the_whole_line_runs_under_another_name_and_nothing_says_the_first(
    named: Settings, reference_table: Database
) -> None:
    await schema.install(named)
    assert (await schema.install(named)).done == []
    sink = MemorySink()
    async with running(named, sink) as daemon:
        await until(daemon, "state", "leading")
        reference_table.run(ADD, [USER, 5, "Pro"])
        await sink.until_credits(USER, 5)
        reference_table.run("UPDATE user_credits SET credits = 0")
        await sink.until_credits(USER, 0)
        reference_table.run("TRUNCATE user_credits")
        await sink.until(lambda: sink.newest[USER].membership_status == "none")
        async with Inspector.opened(named, purpose="test") as inspector:
            assert (await inspector.status()).leader_pid is not None
            assert (await inspector.explain(USER)).problems == []
        names = {name for (name,) in reference_table.run("SELECT DISTINCT application_name FROM pg_stat_activity")}
        assert {f"{named.schema} {each}" for each in ("leader", "doorbell", "sleep")} <= names
    assert reference_table.run("SELECT FROM pg_namespace WHERE nspname = 'creditsd'") == []
    for (text,) in reference_table.run(MADE.replace("%(schema)s", f"'{named.schema}'")):
        assert "creditsd." not in text.replace("'creditsd.careful'", "").replace("'creditsd.marked_'", "")
    assert (await schema.uninstall(named)).done[-1] == f"dropped the schema {named.schema}"
    left = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$|public$)'"
    assert reference_table.run(left) == []
    assert reference_table.run("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal") == []


async def test_the_script_of_another_name_installs_the_same(named: Settings, reference_table: Database) -> None:
    reference_table.psql(await schema.script(named))
    assert (await schema.install(named)).done == []


async def test_two_kinds_of_one_table_each_have_their_own_total(reference_table: Database) -> None:
    first = configured(reference_table, source={"where": "membership IS DISTINCT FROM 'image'"})
    second = images(reference_table, source={"where": "membership = 'image'"})
    async with two(reference_table, first, second) as (words, pictures):
        reference_table.run(ADD, [USER, 5, "word"])
        reference_table.run(ADD, [USER, 7, "image"])
        await words.until_credits(USER, 5)
        await pictures.until_credits(USER, 7)
        reference_table.run("UPDATE user_credits SET credits = credits + 10")
        await words.until_credits(USER, 15)
        await pictures.until_credits(USER, 17)
        # What one expires, the other hears of: a change of the table like any.
        reference_table.run("UPDATE user_credits SET credits = 0 WHERE membership = 'image'")
        await pictures.until_credits(USER, 0)
        status = "SELECT membership, status FROM user_credits ORDER BY 1"
        await eventually(
            partial(asyncio.to_thread, reference_table.run, status),
            lambda rows: rows == [("image", "expired"), ("word", "active")],
        )
    assert {int(total.credits) for total in words.totals} <= {0, 5, 15}
    assert {int(total.credits) for total in pictures.totals} <= {0, 7, 17}


async def test_two_tables_each_have_their_own_installation(reference_table: Database) -> None:
    reference_table.run("CREATE TABLE image_credits (LIKE user_credits INCLUDING ALL)")
    second = images(reference_table, source={"table": "public.image_credits"})
    async with two(reference_table, configured(reference_table), second) as (words, pictures):
        reference_table.run(ADD, [USER, 5, "word"])
        reference_table.run(ADD.replace("user_credits", "image_credits"), [USER, 7, "image"])
        await words.until_credits(USER, 5)
        await pictures.until_credits(USER, 7)
    assert {int(total.credits) for total in words.totals} == {5}
    assert {int(total.credits) for total in pictures.totals} == {7}


async def test_neither_installs_over_nor_recomputes_for_the_other(reference_table: Database) -> None:
    first = await installed(reference_table)
    marks = "SELECT fingerprint() FROM (SELECT 1) AS one".replace("fingerprint", "creditsd.fingerprint")
    before = reference_table.run(marks)
    second = images(reference_table)
    await schema.install(second)
    assert reference_table.run(marks) == before
    of_second = marks.replace("creditsd.", f"{IMAGES}.")
    before_second = reference_table.run(of_second)
    await schema.uninstall(first)
    assert reference_table.run(of_second) == before_second
    assert (await schema.install(second)).done == []
    assert [
        name for (name,) in reference_table.run("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1")
    ] == [f"{event}_creditsd_{IMAGES}" for event in ("delete", "insert", "truncate", "update")]


async def test_the_uninstall_of_one_leaves_the_other_whole(reference_table: Database) -> None:
    first, second = configured(reference_table), images(reference_table)
    async with two(reference_table, first, second) as (_, pictures):
        with pytest.raises(NotAgreed, match="a daemon leads here"):
            await schema.uninstall(second)
    sink = MemorySink()
    async with running(second, sink) as daemon:
        await until(daemon, "state", "leading")
        await schema.uninstall(first)
        reference_table.run(ADD, [USER, 7, "image"])
        await sink.until_credits(USER, 7)
        async with Inspector.opened(second, purpose="test") as inspector:
            assert (await inspector.status()).problems == []
            assert (await inspector.strangers()) == []
    assert pictures.newest == {}


async def test_a_trigger_that_is_missing_is_missed_by_its_own_installation(reference_table: Database) -> None:
    first, second = await installed(reference_table), images(reference_table)
    await schema.install(second)
    reference_table.run(f"DROP TRIGGER insert_creditsd_{IMAGES} ON user_credits")
    async with Inspector.opened(first, purpose="test") as inspector:
        assert (await inspector.status()).problems == []
    with pytest.raises(SchemaError, match="triggers are missing on public"):
        async with Inspector.opened(second, purpose="test"):
            pass


async def test_a_restricted_role_of_one_has_no_right_in_the_other(reference_table: Database, role: str) -> None:
    await installed(reference_table)
    await schema.install(images(reference_table, role=role))
    may = "SELECT has_schema_privilege(%s, %s, 'USAGE')"
    assert [reference_table.run(may, [role, each])[0][0] for each in ("creditsd", IMAGES)] == [False, True]


async def test_a_schema_of_somebody_elses_is_left_alone(reference_table: Database) -> None:
    reference_table.run(
        "CREATE SCHEMA shop; CREATE TABLE shop.balances (id int); CREATE TABLE shop.installation (id int)"
    )
    settings = configured(reference_table, schema="shop")
    with pytest.raises(SchemaError, match="a schema shop that creditsd has not made: set schema"):
        await schema.install(settings)
    assert (await schema.uninstall(settings)).done == []
    assert reference_table.run("SELECT count(*) FROM pg_class WHERE relnamespace = 'shop'::regnamespace") == [(2,)]


async def test_all_installations_are_listed_each_with_its_leader(reference_table: Database) -> None:
    first = await installed(reference_table)
    second = images(reference_table, source={"where": "membership = 'image'"})
    await schema.install(second)
    sink = MemorySink()
    async with running(second, sink) as daemon:
        await until(daemon, "state", "leading")
        reference_table.run(ADD, [USER, 7, "image"])
        await sink.until_credits(USER, 7)
        found = await listed(first)
    assert [(each.schema, each.table, each.problem) for each in found] == [
        ("creditsd", "public.user_credits", ""),
        (IMAGES, "public.user_credits", ""),
    ]
    assert [each.leader_pid is not None for each in found] == [False, True]
    reference_table.run("ALTER TABLE creditsd.sinks DROP COLUMN served_by")
    older, other = await listed(second)
    assert "served_by" in older.problem
    assert not other.problem


async def test_the_doctor_finds_each_well(reference_table: Database) -> None:
    async with two(reference_table, configured(reference_table), images(reference_table)):
        for settings in (configured(reference_table), images(reference_table)):
            findings = [each async for each in examine(settings)]
            assert [each for each in findings if each.level == "problem"] == []


async def test_two_daemons_of_one_installation_still_take_turns(reference_table: Database) -> None:
    settings = images(reference_table)
    await schema.install(settings)
    async with running(settings, MemorySink()) as leader:
        await until(leader, "state", "leading")
        sink = MemorySink()
        async with running(settings, sink) as standby:
            await until(standby, "state", "standby")
            leader.stop()
            await until(standby, "state", "leading")
            reference_table.run(ADD, [USER, 7, "image"])
            await sink.until_credits(USER, 7)


async def test_a_second_installation_at_the_first_ones_prefix_stands_still_until_it_has_its_own(
    reference_table: Database, valkey: Valkey
) -> None:
    def cached(**more: object) -> Settings:
        return configured(reference_table, sinks=[{"name": "cache", "url": valkey.url, "prefix": "c:"}], **more)

    first, second = cached(), cached(schema=IMAGES)
    async with two(reference_table, first, second):

        async def refused() -> list[str]:
            found = []
            for settings in (first, second):
                async with Inspector.opened(settings, purpose="test") as inspector:
                    found += [
                        each.last_error or "" for each in (await inspector.status()).sinks if each.name == "cache"
                    ]
            return [each for each in found if each]

        # Where both connect in the same moment, both give way first, and the next try tells one of them from the other.
        (said,) = await eventually(refused, lambda found: len(found) == 1)
        assert "writes at the prefix 'c:' already" in said
        assert "give this sink another prefix" in said
