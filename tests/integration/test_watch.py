"""The application changes its table under a running daemon: that is noticed, said, and right after one install."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from creditsd.admin.inspect import Inspector
from creditsd.domain.errors import SchemaError
from creditsd.postgres.connections import connected
from creditsd.schema import install as schema
from creditsd.schema.installation import Stops
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, Line, MemorySink, as_role, configured, installed
from tests.integration.mending import ADD, ASKED, SPEND, until_mended, until_told, until_unready
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE, Postgres

ALWAYS = "".join(
    f"ALTER TABLE user_credits ENABLE ALWAYS TRIGGER creditsd_{event}; "
    for event in ("insert", "update", "delete", "truncate")
)
SWAP = """
BEGIN;
CREATE TABLE copy (LIKE user_credits INCLUDING ALL);
INSERT INTO copy SELECT * FROM user_credits;
ALTER TABLE user_credits RENAME TO former;
ALTER TABLE copy RENAME TO user_credits;
COMMIT;
"""
ANEW = f"""
BEGIN;
CREATE TABLE kept AS SELECT * FROM user_credits;
DROP TABLE user_credits;
{REFERENCE_TABLE}
INSERT INTO user_credits SELECT * FROM kept;
COMMIT;
"""
RENAMED_AWAY = """
ALTER TABLE user_credits RENAME TO former;
CREATE TABLE user_credits (LIKE former INCLUDING ALL);
INSERT INTO user_credits SELECT * FROM former;
"""
NEVER = """
CREATE OR REPLACE TRIGGER creditsd_update AFTER UPDATE ON user_credits
FOR EACH ROW WHEN (false) EXECUTE FUNCTION creditsd.capture_update()
"""
# Triggers.


@pytest.mark.parametrize("afterwards", ["", "ALTER TABLE user_credits ENABLE TRIGGER ALL"], ids=["off", "on again"])
@pytest.mark.parametrize(
    "damage",
    [
        "ALTER TABLE user_credits DISABLE TRIGGER ALL",
        "ALTER TABLE user_credits DISABLE TRIGGER creditsd_update",
        "DROP TRIGGER creditsd_update ON user_credits",
        NEVER,
    ],
)
async def test_what_is_written_while_a_trigger_is_off_is_right_after_an_install(
    reference_table: Database, damage: str, afterwards: str
) -> None:
    settings = await installed(reference_table)
    sink = MemorySink()
    with capture_logs() as logs:
        async with running(settings, sink) as daemon:
            reference_table.run(ADD, [USER, 10])
            await sink.until_credits(USER, 10)
            reference_table.run(f"{damage}; {SPEND}; {afterwards}")
            await until_unready(daemon, r"public\.user_credits: run `creditsd install`")
            reference_table.run(SPEND)
            done = (await schema.install(settings)).done
            assert done == ["put the triggers on public.user_credits", ASKED]
            await sink.until_credits(USER, 8)
            await until_mended(daemon)
            reference_table.run(SPEND)
            await sink.until_credits(USER, 7)
    assert (await schema.install(settings)).done == []
    said = [event for event in logs if event["event"].startswith("schema.")]
    assert [event["event"] for event in said][-1] == "schema.mended"
    problems = [event["problem"] for event in said if event["event"] == "schema.diverged"]
    assert len(problems) == len(set(problems)) > 0
    assert {event["hint"] for event in said if event["event"] == "schema.diverged"} == {"run `creditsd install`"}


@pytest.mark.parametrize("in_one", [True, False])
async def test_triggers_that_were_off_for_a_moment_and_are_as_before_mean_everyone(
    reference_table: Database, in_one: bool
) -> None:
    settings = await installed(reference_table)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        reference_table.run(ADD, [USER, 10])
        await sink.until_credits(USER, 10)
        steps = ["ALTER TABLE user_credits DISABLE TRIGGER ALL", SPEND, ALWAYS]
        for step in ["; ".join(steps)] if in_one else steps:
            reference_table.run(step)
        await sink.until_credits(USER, 9)
        await until_mended(daemon)
    assert (await schema.install(settings)).done == []


async def test_a_function_that_somebody_replaced_is_noticed_and_made_anew(reference_table: Database) -> None:
    settings = await installed(reference_table)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        reference_table.run(ADD, [USER, 10])
        await sink.until_credits(USER, 10)
        reference_table.run(
            "CREATE OR REPLACE FUNCTION creditsd.capture_update() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
            "SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'; " + SPEND
        )
        await until_unready(
            daemon, "functions of the schema creditsd are not as they were made: run `creditsd install`"
        )
        reference_table.run(SPEND)
        assert (await schema.install(settings)).done == ["made the functions"]
        await sink.until_credits(USER, 8)
        await until_mended(daemon)


async def test_commands_name_what_could_hide_a_change_and_status_shows_it_beside_the_rest(
    reference_table: Database,
) -> None:
    settings = await installed(reference_table)
    reference_table.run("ALTER TABLE user_credits DISABLE TRIGGER creditsd_delete")
    says = "triggers are disabled on public.user_credits: run `creditsd install`"
    async with connected(settings.dsn, purpose="test") as connection:
        with pytest.raises(SchemaError, match=re.escape(says)):
            await schema.missing(connection, settings)
        await schema.usable(connection, settings)
    async with Inspector.opened(settings, purpose="status", tolerated=Stops.TOTALS) as inspector:
        problem, hint = says.split(": ")
        assert (await inspector.status()).problems == [{"problem": problem, "hint": hint}]
    reference_table.run("DROP TABLE user_credits")
    async with Inspector.opened(settings, purpose="status", tolerated=Stops.TOTALS) as inspector:
        assert "no table public.user_credits" in (await inspector.status()).problems[0]["problem"]


async def test_a_daemon_that_reconnects_while_something_must_be_mended_goes_on_leading(
    reference_table: Database,
) -> None:
    settings = await installed(reference_table)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        await until(daemon, "state", "leading")
        reference_table.run("ALTER TABLE user_credits DISABLE TRIGGER creditsd_delete")
        await until_unready(daemon, "triggers are disabled")
        reference_table.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'creditsd leader' AND datname = current_database()"
        )
        reference_table.run(ADD, [USER, 10])
        await sink.until_credits(USER, 10)
        await until_unready(daemon, "triggers are disabled")


# Another table of that name.


@pytest.mark.parametrize("change", [SWAP, ANEW, RENAMED_AWAY], ids=["swapped", "made anew", "renamed away"])
async def test_another_table_under_the_name_is_noticed_and_right_after_an_install(
    reference_table: Database, change: str
) -> None:
    settings = await installed(reference_table, history={"days": 1})
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        reference_table.run(ADD, [USER, 10])
        before = await sink.until_credits(USER, 10)
        reference_table.psql(change)
        reference_table.run(SPEND)
        await until_unready(daemon, r"triggers are missing on public\.user_credits.*: run `creditsd install`")
        reference_table.run(SPEND)
        reference_table.run("INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, last_error) "
                            "VALUES ('cache', %s, 1, 9, 'dead')", [OTHER])  # fmt: skip
        done = (await schema.install(settings)).done
        assert [line for line in done if "put the triggers on public.user_credits" in line or line == ASKED] == [
            "put the triggers on public.user_credits",
            ASKED,
        ]
        total = await sink.until_credits(USER, 8)
        assert total.version > before.version
        await until_mended(daemon)
        reference_table.run(SPEND)
        await sink.until_credits(USER, 7)
    # Nothing of ours was lost on the way, and the former table is left without a trace.
    assert reference_table.run("SELECT user_id::text, last_error FROM creditsd.deliveries") == [(OTHER, "dead")]
    assert reference_table.run("SELECT cursor > 0 FROM creditsd.sinks WHERE name = 'memory'") == [(True,)]
    assert reference_table.run("SELECT count(*) > 2 FROM creditsd.history") == [(True,)]
    assert reference_table.run("SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal") == [
        ("user_credits",)
    ]
    assert (await schema.install(settings)).done == []


@pytest.mark.parametrize("change", ["RENAME TO user_credit", "SET SCHEMA billing"])
async def test_a_table_that_is_renamed_or_moved_is_followed_by_the_setting_and_an_install(
    reference_table: Database, change: str
) -> None:
    settings = await installed(reference_table)
    reference_table.run("CREATE SCHEMA billing")
    sink = MemorySink()
    table = "public.user_credit" if "RENAME" in change else "billing.user_credits"
    async with running(settings, sink) as daemon:
        reference_table.run(ADD, [USER, 10])
        await sink.until_credits(USER, 10)
        reference_table.run(f"ALTER TABLE user_credits {change}")
        await until_told(daemon, rf"no table public\.user_credits: did you mean {re.escape(table)}\?")
        reference_table.run(SPEND.replace("user_credits", table))
    async with connected(settings.dsn, purpose="test") as connection:
        with pytest.raises(SchemaError, match=rf"no table public\.user_credits: did you mean {re.escape(table)}\?"):
            await schema.missing(connection, settings)
    settings = configured(reference_table, source={"table": table})
    assert (await schema.install(settings)).done == ["made the functions"]  # the triggers went with the table
    async with running(settings, sink):
        await sink.until_credits(USER, 9)
        reference_table.run(SPEND.replace("user_credits", table))
        await sink.until_credits(USER, 8)


async def test_a_dropped_table_leaves_the_last_totals_until_there_is_one_again(reference_table: Database) -> None:
    settings = await installed(reference_table)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        reference_table.run(ADD, [USER, 10])
        await sink.until_credits(USER, 10)
        reference_table.run("DROP TABLE user_credits")
        await until(daemon, "ready", False)
        reference_table.run(REFERENCE_TABLE)
        await schema.install(settings)
        await sink.until_credits(USER, 0)
        reference_table.run(ADD, [USER, 3])
        await sink.until_credits(USER, 3)
        await until_mended(daemon)


async def test_a_dump_that_brings_everything_along_needs_no_install(
    reference_table: Database,
) -> None:
    settings = await installed(reference_table)
    reference_table.run(ADD, [USER, 10])
    async with Line.settled(settings):
        pass
    dumped = reference_table.pg_dump()
    reference_table.run("DROP TABLE user_credits; DROP SCHEMA creditsd CASCADE")
    reference_table.psql(dumped)
    reference_table.run(SPEND)
    async with Line.settled(settings) as line:
        assert line.resumption.resyncing is not None
        assert await line.stored() == {USER: 9}
    assert (await schema.install(settings)).done == []


async def test_a_table_restored_without_its_triggers_is_right_after_an_install(reference_table: Database) -> None:
    settings = await installed(reference_table)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        reference_table.run(ADD, [USER, 10])
        await sink.until_credits(USER, 10)
        dumped = reference_table.pg_dump("-t", "public.user_credits")
        reference_table.run("DROP TABLE user_credits")
        reference_table.psql(re.sub(r"(?s)(CREATE TRIGGER|ALTER TABLE \S+ ENABLE ALWAYS TRIGGER).*?;", "", dumped))
        reference_table.run(SPEND)
        await schema.install(settings)
        await sink.until_credits(USER, 9)
        await until_mended(daemon)


async def test_a_table_that_becomes_a_partition_of_its_successor_is_covered(reference_table: Database) -> None:
    settings = await installed(reference_table)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        reference_table.run(ADD, [USER, 10])
        await sink.until_credits(USER, 10)
        reference_table.run(
            "ALTER TABLE user_credits RENAME TO former; "
            "CREATE TABLE user_credits (LIKE former INCLUDING DEFAULTS) PARTITION BY RANGE (created_at); "
            "ALTER TABLE former DROP CONSTRAINT user_credits_pkey; ALTER TABLE former ALTER id DROP NOT NULL; "
            "ALTER TABLE user_credits ALTER id DROP NOT NULL; "
            "ALTER TABLE user_credits ATTACH PARTITION former DEFAULT; " + SPEND
        )
        await until_unready(daemon, "triggers are")
        await schema.install(settings)
        await sink.until_credits(USER, 9)
        await until_mended(daemon)
        reference_table.run(SPEND)
        await sink.until_credits(USER, 8)
        reference_table.run("UPDATE former SET credits = 5")
        await sink.until_credits(USER, 5)


# Row level security, publications, crashes.


async def test_a_table_that_is_not_logged_is_emptied_by_a_crash_which_means_everyone(
    own_postgres: Callable[..., Postgres],
) -> None:
    server = own_postgres()
    server.psql(REFERENCE_TABLE)
    database = Database(server, "postgres", server.dsn())
    database.run("ALTER TABLE user_credits SET UNLOGGED")
    settings = await installed(database)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        database.run(ADD, [USER, 10])
        await sink.until_credits(USER, 10)
        database.run("CHECKPOINT")
        await asyncio.to_thread(server.restart, "immediate")
        await sink.until_credits(USER, 0)
        await until(daemon, "ready", True)


async def test_row_level_security_forced_on_the_owner_is_an_error_and_never_a_smaller_sum(
    database: Database, role: str
) -> None:
    database.run(f"GRANT CREATE ON SCHEMA public TO {role}; GRANT CREATE ON DATABASE {database.name} TO {role}")
    owner = as_role(database, role)
    owner.run(REFERENCE_TABLE)
    settings = await installed(owner)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        owner.run(ADD, [USER, 10])
        await sink.until_credits(USER, 10)
        owner.run("ALTER TABLE user_credits ENABLE ROW LEVEL SECURITY")  # which the owner is exempt from
        owner.run(SPEND)
        await sink.until_credits(USER, 9)
        owner.run("CREATE POLICY nobody ON user_credits USING (false)")
        owner.run("ALTER TABLE user_credits FORCE ROW LEVEL SECURITY")
        database.run(SPEND)

        async def said() -> str:
            return str(daemon.health()["problem"])

        await eventually(said, lambda now: "NO FORCE ROW LEVEL SECURITY" in now)
        assert not daemon.health()["ready"]
        with pytest.raises(SchemaError, match=rf"forced on its owner {role}.*NO FORCE ROW LEVEL SECURITY"):
            await schema.install(settings)
        owner.run("ALTER TABLE user_credits NO FORCE ROW LEVEL SECURITY")
        await sink.until_credits(USER, 8)
        await until_mended(daemon)
    assert {total.credits for total in sink.totals} == {10, 9, 8}


@pytest.mark.parametrize("when", ["before the install", "after it"])
async def test_a_publication_for_all_tables_is_not_noticed(reference_table: Database, when: str) -> None:
    published = "CREATE PUBLICATION cdc FOR ALL TABLES"
    if when == "before the install":
        reference_table.run(published)
    settings = await installed(reference_table, history={"days": 1}, expire_empty="on")
    if when == "after it":
        reference_table.run(published)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        reference_table.run(ADD, [USER, 10])
        await sink.until_credits(USER, 10)
        reference_table.run(
            "INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES (%s, 0, 'active', 'one_time')",
            [OTHER],
        )
        await sink.until_credits(OTHER, 0)
        reference_table.run("INSERT INTO creditsd.resyncs (cause) VALUES ('backfill')")
        reference_table.run("INSERT INTO creditsd.repairs VALUES (%s)", [USER])
        reference_table.run(ADD, [USER, 1])
        await sink.until_credits(USER, 11)

        async def left() -> Sequence[tuple[Any, ...]]:
            return reference_table.run("SELECT FROM creditsd.changes UNION ALL SELECT FROM creditsd.resyncs "
                                       "UNION ALL SELECT FROM creditsd.repairs")  # fmt: skip

        await eventually(left, lambda found: found == [])
        await until(daemon, "ready", True)
    lost = """
        SELECT c.oid::regclass::text FROM pg_class AS c
        WHERE c.relnamespace = 'creditsd'::regnamespace AND c.relkind = 'r'
        AND NOT (
            c.relreplident IN ('f', 'i')
            OR (c.relreplident = 'd' AND EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary))
        )
    """
    assert reference_table.run(lost) == []
