"""The application comes first: its writes pass and are recorded, or it is said who keeps them waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from creditsd.admin.doctor import changes, leader
from creditsd.admin.inspect import Inspector
from creditsd.config.settings import Settings
from creditsd.domain.errors import DatabaseUnavailable
from creditsd.postgres.connections import connected
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, Line, MemorySink, installed, user
from tests.integration.marks import waiting
from tests.integration.play import ADD
from tests.integration.running import running, until
from tests.integration.test_locks import WATCHFUL, named, somebody

MANY = 200_000

# What an application's sessions, its role, a pooler or an administrator set.
SET = {
    "search_path": "",
    "session_replication_role": "replica",
    "row_security": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "standard_conforming_strings": "off",
    "escape_string_warning": "on",
    "backslash_quote": "off",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Pacific/Kiritimati",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "lc_messages": "C",
    "client_encoding": "SQL_ASCII",
    "client_min_messages": "error",
    "work_mem": "64kB",
    "maintenance_work_mem": "1MB",
    "temp_file_limit": "0",
    "plan_cache_mode": "force_custom_plan",
    "enable_indexscan": "off",
    "from_collapse_limit": "1",
    "jit_above_cost": "0",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "check_function_bodies": "off",
    "lock_timeout": "1",
    "plpgsql.extra_errors": "all",
    "plpgsql.extra_warnings": "all",
    "plpgsql.variable_conflict": "use_variable",
    "plpgsql.print_strict_params": "on",
    "default_toast_compression": "pglz",
    "restrict_nonsystem_relation_kind": "view,foreign-table",
    "event_triggers": "off",
}
WRITES = (
    f"INSERT INTO public.user_credits (user_id, credits, status) VALUES ('{USER}', 1, 'active')",
    "UPDATE public.user_credits SET credits = credits + 1",
    f"UPDATE public.user_credits SET user_id = '{OTHER}'",
    (
        "INSERT INTO public.user_credits (id, user_id) SELECT id, user_id FROM public.user_credits "
        f"ON CONFLICT (id) DO UPDATE SET user_id = '{USER}'"
    ),
    "DELETE FROM public.user_credits",
)
MARKED = sorted([USER, USER, OTHER, USER, USER, OTHER, USER])


@pytest.fixture
def table(installation: Database, role: str) -> Iterator[Database]:
    """The installed table, and a role that may do all to it, and to nothing of ours."""
    installation.run(f"GRANT ALL ON user_credits TO {role}; GRANT ALL ON SEQUENCE user_credits_id_seq TO {role}")
    yield installation
    installation.run(f"DROP OWNED BY {role}")


async def test_whatever_is_set_in_a_session_its_writes_pass_and_are_recorded(table: Database, role: str) -> None:
    known = {name for (name,) in table.run("SELECT name FROM pg_settings")}
    settings = [(name, value) for name, value in SET.items() if name in known or "." in name]
    sessions = [[each] for each in settings] + [settings]
    async with table.connect() as session:
        for together in sessions:
            for name, value in together:
                await session.execute("SELECT set_config(%s, %s, false)", [name, value])
            await session.execute(f"SET ROLE {role}".encode())
            for written in WRITES:
                await session.execute(written.encode())
            await session.execute(b"RESET ROLE; RESET ALL")
            marked = table.run("DELETE FROM creditsd.changes RETURNING user_id::text")
            assert sorted(user_id for (user_id,) in marked) == MARKED, together


@pytest.mark.parametrize(
    ("statement", "lock"),
    [
        ("LOCK TABLE creditsd.changes IN ACCESS EXCLUSIVE MODE", "AccessExclusiveLock on creditsd.changes"),
        ("LOCK TABLE creditsd.changes IN SHARE MODE", "ShareLock on creditsd.changes"),
        ("REINDEX TABLE creditsd.changes", "ShareLock on creditsd.changes"),
        ("LOCK TABLE creditsd.resyncs IN EXCLUSIVE MODE", "ExclusiveLock on creditsd.resyncs"),
    ],
)
async def test_who_locks_what_every_write_goes_to_is_named(
    installation: Database, settings: Settings, statement: str, lock: str
) -> None:
    async with somebody(installation).connect() as stranger, installation.connect() as writer:
        await stranger.execute("BEGIN")
        await stranger.execute(statement.encode())
        await writer.execute("SET lock_timeout = 50")
        written = "TRUNCATE user_credits" if "resyncs" in statement else WRITES[0]
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await writer.execute(written.encode())
        pid = stranger.info.backend_pid
        held = f"process {pid} (role postgres, psql) holds up the application's writes, by {lock}"
        async with Inspector.opened(settings, purpose="status") as inspector:
            assert await inspector.strangers() == [held]
            if "ACCESS" in statement or "REINDEX" in statement:
                with pytest.raises(DatabaseUnavailable) as locked:
                    await inspector.status()
                assert str(locked.value) == f"{held}: end it"
            else:
                assert f"{held}, and is none of ours: end it" in (await inspector.status()).sentence([held])
        async with installation.connect() as examined:
            assert f"{held}, and is none of ours" in [each.said for each in await leader.examine(examined, settings)]
        await stranger.execute("ROLLBACK")
        await writer.execute(ADD, [USER, 1])


async def test_a_daemon_that_sleeps_names_who_keeps_every_writer_waiting(
    installation: Database, settings: Settings
) -> None:
    # No writer rings who waits, so nothing woke it: it was ready, and nobody was named.
    async with (
        running(settings, MemorySink(), timings=WATCHFUL) as daemon,
        somebody(installation).connect() as stranger,
    ):
        await until(daemon, "doorbell", "asleep")
        await stranger.execute("BEGIN")
        await stranger.execute("LOCK TABLE creditsd.changes IN SHARE MODE")
        await named(daemon, stranger.info.backend_pid, "holds up the application's writes")
        assert daemon.health()["doorbell"] == "asleep"
        await stranger.execute("ROLLBACK")
        await until(daemon, "problem", None)


async def test_who_queues_for_such_a_lock_is_named_too(installation: Database, settings: Settings) -> None:
    # Behind a request every later writer waits, for as long as the one before it takes.
    async with installation.connect() as slow, somebody(installation).connect() as stranger:
        await slow.execute("BEGIN")
        await slow.execute(ADD, [USER, 1])
        vacuum = asyncio.create_task(stranger.execute(b"VACUUM FULL creditsd.changes"))
        async with Inspector.opened(settings, purpose="status") as inspector:
            (said,) = await eventually(inspector.strangers)
        assert said.endswith("by AccessExclusiveLock on creditsd.changes it waits for")
        await slow.execute("COMMIT")
        await vacuum


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM creditsd.changes FOR UPDATE",
        "DELETE FROM creditsd.changes",
        "LOCK TABLE creditsd.changes IN SHARE UPDATE EXCLUSIVE MODE",  # VACUUM, ANALYZE, CREATE INDEX CONCURRENTLY
        "ANALYZE creditsd.changes",
    ],
)
async def test_who_holds_rows_of_ours_or_vacuums_keeps_no_write_waiting(
    installation: Database, settings: Settings, statement: str
) -> None:
    installation.run(ADD, [USER, 1])
    async with installation.connect() as stranger, installation.connect() as writer:
        await stranger.execute("BEGIN")
        await stranger.execute(statement.encode())
        await writer.execute("SET lock_timeout = 50")
        for written in WRITES:
            await writer.execute(written.encode())
        async with Inspector.opened(settings, purpose="status") as inspector:
            assert await inspector.strangers() == []


async def test_a_transaction_keeps_two_locks_more_and_a_third_where_it_truncates(installation: Database) -> None:
    ours = """
        SELECT locktype, coalesce(relation::regclass::text, ''), mode FROM pg_locks
        WHERE pid = pg_backend_pid() AND locktype <> 'virtualxid'
        AND coalesce(relation::regclass::text, '') !~ '^(pg_|user_credits)'
        AND locktype <> 'transactionid'
        ORDER BY 1, 2
    """
    two = [
        ("advisory", "", "ShareLock"),
        ("relation", "creditsd.changes", "RowExclusiveLock"),
    ]
    async with installation.connect() as writer:
        await writer.execute("BEGIN")
        for written in (*WRITES, *WRITES):
            await writer.execute(written.encode())
        await writer.execute(
            "INSERT INTO user_credits (user_id, credits) SELECT gen_random_uuid(), n FROM generate_series(1, 500) AS n"
        )
        assert await (await writer.execute(ours.encode())).fetchall() == two
        transactions = "SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'transactionid'"
        assert len(await (await writer.execute(transactions)).fetchall()) == 1  # no subtransaction of ours has a number
        await writer.execute("TRUNCATE user_credits")
        resyncs = ("relation", "creditsd.resyncs", "RowExclusiveLock")
        assert await (await writer.execute(ours.encode())).fetchall() == [*two, resyncs]
        await writer.execute("ROLLBACK")


async def test_after_a_week_without_a_daemon_a_write_costs_as_much_and_all_is_told_and_deleted(
    reference_table18: Database,
) -> None:
    settings = await installed(reference_table18)
    write = "INSERT INTO user_credits (user_id, credits, status) VALUES ('{}', 1, 'active')"
    reference_table18.run(
        "INSERT INTO creditsd.changes (user_id) "
        "SELECT ('00000000-0000-0000-0000-' || lpad((n % 3000)::text, 12, '0'))::uuid "
        f"FROM generate_series(1, {MANY}) AS n"
    )
    ((pages,),) = reference_table18.run("SELECT pg_table_size('creditsd.changes') / 8192")
    assert pages > 1000
    assert await blocks(reference_table18, write.format(user(2))) < 10
    async with connected(settings.dsn, purpose="doctor") as connection:
        (found,) = await changes.examine(connection, settings)
        assert found.level == "note"
        assert found.said.startswith("100000 changes or more wait to be read; creditsd.changes takes")
        sink = MemorySink()
        async with running(settings, sink):
            await sink.until_credits(user(2), 20)
            await eventually(lambda: waiting(connection), lambda left: left == 0)
        assert max(len(delivery) for delivery in sink.deliveries) <= settings.max_batch_users
        (found,) = await changes.examine(connection, settings)
        assert (found.level, found.said.split(";")[0]) == ("good", "0 changes wait to be read")


async def blocks(database: Database, write: str) -> int:
    """How many blocks of the changes and their index a write touches, the least of twenty: a page may be full."""
    touched = """
        SELECT sum(pg_stat_get_xact_blocks_fetched(relation)) FROM unnest(
            ARRAY['creditsd.changes', 'creditsd.changes_xid_user_id']::regclass[]
        ) AS relation
    """
    least = []
    async with database.connect() as writer:
        for _ in range(20):
            async with writer.transaction():
                await writer.execute(write.encode())
                ((found,),) = await (await writer.execute(touched)).fetchall()
            least.append(int(found))
    return min(least)


PACK = "INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES (%s, 0, 'active', 'one_time')"
AUDITED = """
CREATE TABLE audit (credits integer);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO public.audit VALUES (NEW.credits); RETURN NULL; END $$;
CREATE TRIGGER audit AFTER UPDATE ON user_credits FOR EACH ROW EXECUTE FUNCTION audit()
"""


@pytest.mark.parametrize("lock", ["ALTER TABLE user_credits DISABLE TRIGGER audit", "LOCK TABLE audit"])
async def test_who_locks_the_table_or_another_and_writes_its_rows_is_not_ended_for_packs_that_expire(
    reference_table: Database, lock: str
) -> None:
    # Rows were held before the locks that the write to them takes, and each was tried by itself then: PostgreSQL ended
    # the application's transaction, whose write waited for the rows.
    reference_table.run(AUDITED)
    settings = await installed(reference_table)
    async with Line.settled(settings) as line, reference_table.connect() as migration:
        for number in range(30):
            reference_table.run(PACK, [user(number)])
        await migration.execute("BEGIN")
        await migration.execute(lock.encode())
        settling = asyncio.create_task(line.settle())

        async def expiring() -> bool:
            waits = "SELECT FROM pg_locks WHERE pid = %s AND NOT granted"
            return settling.done() or bool(reference_table.run(waits, [line.connection.info.backend_pid]))

        await eventually(expiring)
        await migration.execute("UPDATE user_credits SET credits = credits + 1")
        await migration.execute("COMMIT")
        await settling
    assert reference_table.run("SELECT DISTINCT credits FROM user_credits") == [(1,)]
