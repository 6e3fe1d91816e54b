"""An upgrade from every schema there has been, under an application that never stops writing."""

from __future__ import annotations

import asyncio
import lzma
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from creditsd.config.settings import Settings
from creditsd.domain.errors import DatabaseUnavailable
from creditsd.domain.total import Total
from creditsd.postgres import sql_files
from creditsd.schema import install as schema
from tests.conftest import Database, eventually
from tests.faults.load import Load, fill
from tests.faults.truth import wrong_among
from tests.integration.line import MemorySink, configured
from tests.integration.running import running

# What `creditsd install --print` said when the newest migration was the one of that number.
RELEASED = sorted((Path(__file__).parents[1] / "golden" / "installed").glob("*.sql.xz"))
USERS = 60

# Ends the session of an install after so many of its steps.
INTERRUPTED = """
CREATE SCHEMA interrupted;
CREATE SEQUENCE interrupted.steps;
CREATE TABLE interrupted.last AS SELECT 1 AS step;
CREATE FUNCTION interrupted.count() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('application_name') = 'creditsd install'
    AND nextval('interrupted.steps') = (SELECT step FROM interrupted.last) THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF;
END $$;
CREATE EVENT TRIGGER interrupted ON ddl_command_end EXECUTE FUNCTION interrupted.count();
"""

# What a daemon of then has left: everyone has been told something, which is not the truth any more. Columns that the
# schema of then lacks are left out.
LEFT = """
INSERT INTO creditsd.balances (
    user_id, version, updated_at, credits, membership_status, plan_type, can_buy, has_ever_had_subscription, cause
)
SELECT
    c.user_id, extract(epoch FROM now()) * 1000000 + row_number() OVER (), now(), 999999, 'active', 'one_time', true,
    false, 'change'
FROM public.user_credits AS c
GROUP BY c.user_id;

INSERT INTO creditsd.reader
SELECT r.*
FROM pg_control_system() AS s
CROSS JOIN pg_control_checkpoint() AS c
CROSS JOIN LATERAL jsonb_populate_record(NULL::creditsd.reader, jsonb_build_object(
    'single', true, 'snapshot', pg_current_snapshot(), 'purged', pg_current_snapshot(), 'system_identifier',
    s.system_identifier, 'timeline', c.timeline_id, 'started_at', pg_postmaster_start_time(), 'policy', 'of then',
    'partitions', 'of then', 'fingerprint', 'of then', 'resync_users', 0, 'saved_at', now(), 'version_floor', 0,
    'resync_republishes', false, 'home', ''
)) AS r;

INSERT INTO creditsd.sinks (name, cursor)
SELECT 'memory', max(b.version)
FROM creditsd.balances AS b;
"""


def released(database: Database, number: str) -> None:
    """Bring a database to where it was when that was the newest migration, and a daemon of then had told everyone."""
    path = next(each for each in RELEASED if each.name.startswith(number))
    fill(database.dsn, USERS)
    database.psql(lzma.decompress(path.read_bytes()).decode())
    database.psql(LEFT)


async def upgraded_under_load(database: Database, number: str) -> None:
    """Upgrade while the application writes, before and after a daemon of now leads; judge what was told."""
    released(database, number)
    before = dict(database.run("SELECT user_id::text, version FROM creditsd.balances"))
    settings, sink = configured(database), MemorySink()
    load = Load(database.dsn, USERS, pause_seconds=0.002, users_of_their_own=True)
    async with load:
        await load.until_written(100)
        done = await installed_in_the_end(database, settings, 1 + int(number) % 5)
        await load.until_written(100)
        async with running(settings, sink):
            await load.until_written(300)
            await sink.until(lambda: len(sink.newest) >= USERS)
            await load.until_written(100)
            load.end()
            await eventually(lambda: wrong_among(database.dsn, documents(sink)), lambda wrong: wrong == {})
    assert f"applied {next_after(number)}" in done
    assert load.failures == []
    assert older_after_newer(sink.totals, before) == []


async def installed_in_the_end(database: Database, settings: Settings, step: int) -> list[str]:
    """Install, with the server ending its session at one step after another until there are none; say what it did."""
    database.psql(INTERRUPTED)
    died = 0
    while True:
        database.run(f"SELECT setval('interrupted.steps', 1, false); UPDATE interrupted.last SET step = {step}")
        try:
            done = (await schema.install(settings)).done
        except DatabaseUnavailable:
            died += 1
            step *= 2
        else:
            assert died > 3
            return done


def next_after(number: str) -> str:
    names = [name.removeprefix("migrations/") for each, name in sql_files.migrations() if each > int(number)]
    return names[0]


def documents(sink: MemorySink) -> dict[str, dict[str, Any]]:
    """What the sink holds, under the keys of the JSON."""
    return {
        user: {"credits": total.credits, "membershipStatus": total.membership_status, "canBuy": total.can_buy}
        for user, total in sink.newest.items()
    }


def older_after_newer(totals: list[Total], before: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """List whoever was told an older version than the one told before, by this daemon or by one before the upgrade."""
    newest = defaultdict(int, before)
    found = []
    for total in totals:
        if total.version < newest[total.user_id]:
            found.append((total.user_id, newest[total.user_id], total.version))
        newest[total.user_id] = max(newest[total.user_id], total.version)
    return found


@pytest.mark.parametrize("number", [path.name[:4] for path in RELEASED])
async def test_every_schema_there_has_been_is_upgraded_under_load(reference_table18: Database, number: str) -> None:
    await upgraded_under_load(reference_table18, number)


async def test_an_upgrade_that_waits_for_the_table_ends_no_transaction_of_the_applications(
    reference_table18: Database,
) -> None:
    # It held what the triggers write to, and a writer that it waited for ended as a deadlock.
    released(reference_table18, RELEASED[0].name[:4])
    reference_table18.run("DROP TRIGGER creditsd_truncate ON user_credits")
    settings = configured(reference_table18, lock_timeout_seconds=1)
    awaited = "SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE NOT l.granted AND l.relation > 0"
    async with reference_table18.connect() as writer, reference_table18.connect() as watcher:

        async def waits() -> object:
            return await (await watcher.execute(awaited)).fetchall()

        await writer.execute("SET deadlock_timeout = 1")  # the first to look for one is the one who ends
        async with writer.transaction():
            await writer.execute("UPDATE user_credits SET credits = 1 WHERE false")
            installing = asyncio.create_task(schema.install(settings))
            await eventually(waits)
            await writer.execute("UPDATE user_credits SET credits = 1 WHERE id = 1")
        done = (await installing).done
    assert "put the triggers on public.user_credits" in done
    assert reference_table18.run("SELECT count(*) FROM creditsd.changes") == [(1,)]


async def test_the_oldest_is_upgraded_under_load_on_every_version_of_postgresql(reference_table: Database) -> None:
    await upgraded_under_load(reference_table, RELEASED[0].name[:4])


async def test_an_upgrade_that_waits_for_what_writers_hold_keeps_none_of_them(reference_table: Database) -> None:
    released(reference_table, RELEASED[0].name[:4])
    settings = configured(reference_table, lock_timeout_seconds=0.1)
    awaited = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'creditsd.changes'::regclass"
    load = Load(reference_table.dsn, USERS, pause_seconds=0.002, users_of_their_own=True)
    async with reference_table.connect() as slow, reference_table.connect() as watcher:

        async def waits() -> object:
            return await (await watcher.execute(awaited)).fetchall()

        async with slow.transaction():
            await slow.execute("INSERT INTO user_credits (user_id) VALUES (gen_random_uuid())")
            installing = asyncio.create_task(schema.install(settings))
            await eventually(waits)
            async with load:
                await load.until_written(100)
            assert not installing.done()
        assert (await installing).done
    assert load.failures == []
