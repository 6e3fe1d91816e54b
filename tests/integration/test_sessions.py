"""Our sessions are what we need them to be, whatever an administrator has set for the role or the database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from structlog.testing import capture_logs

from creditsd.admin.forget import Eraser
from creditsd.admin.inspect import Inspector
from creditsd.config.settings import Settings
from creditsd.domain.errors import DatabaseUnavailable
from creditsd.postgres.connections import borrowed, connected, pool
from creditsd.schema import install as schema
from tests.conftest import PATIENCE_SECONDS, Database, eventually
from tests.integration.leading import restricted
from tests.integration.line import USER, MemorySink, configured, installed
from tests.integration.play import ADD
from tests.integration.running import running, until
from tests.proxy import Proxy

HOSTILE = {
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "statement_timeout": "1s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "1s",
    "idle_session_timeout": "1s",
    "transaction_timeout": "1s",
}


@pytest.fixture
async def hostile(reference_table: Database) -> AsyncIterator[Settings]:
    """The settings of a role on which all of that is set: an idle session lasts long enough to be set otherwise."""
    with restricted(reference_table) as (role, limited):
        await installed(reference_table, role=role)
        known = {name for (name,) in reference_table.run("SELECT name FROM pg_settings")}
        for name, value in HOSTILE.items():
            if name in known:
                reference_table.run(f"ALTER ROLE {role} SET {name} = '{value}'")
        yield configured(limited)


async def test_a_daemon_leads_and_stays_whatever_is_set_on_its_role(
    reference_table: Database, hostile: Settings
) -> None:
    # Fifteen reconnects in twenty seconds, or 140 vain tries in eight.
    sink = MemorySink()
    with capture_logs() as logs:
        async with running(hostile, sink) as daemon:
            await until(daemon, "doorbell", "asleep")
            ((pid,),) = reference_table.run(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'creditsd sleep' "
                "AND datname = current_database()"
            )
            reference_table.run(ADD, [USER, 1])
            await sink.until_credits(USER, 1)
            # Asked of the server, by its clock: longer than any of the time-outs, shorter than between two heartbeats.
            asleep = f"SELECT clock_timestamp() - state_change > '3 s' FROM pg_stat_activity WHERE pid = {pid}"

            async def outlived() -> object:
                return reference_table.run(asleep)

            await eventually(outlived, lambda rows: rows == [(True,)])
    assert [event for event in logs if event["event"] == "daemon.interrupted"] == []


@pytest.mark.parametrize("shared", [False, True], ids=["direct", "through a pooler"])
async def test_no_default_of_the_roles_counts_in_our_transactions(hostile: Settings, shared: bool) -> None:
    said = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
    async with connected(hostile.dsn, purpose="test", shared=shared) as connection:
        assert await (await connection.execute(said)).fetchone() == ("read committed", "off")
        async with connection.transaction():
            assert await (await connection.execute(said)).fetchone() == ("read committed", "off")
    async with pool(hostile.dsn, purpose="test", max_size=1, shared=shared) as pooled, borrowed(pooled) as connection:
        assert await (await connection.execute(said)).fetchone() == ("read committed", "off")


async def test_what_fails_again_and_again_after_connecting_is_tried_after_growing_pauses(
    reference_table18: Database,
) -> None:
    settings = await installed(reference_table18)
    reference_table18.run(
        "CREATE OR REPLACE FUNCTION creditsd.heartbeat(proof text) RETURNS jsonb LANGUAGE plpgsql AS "
        "$$BEGIN RAISE 'not now' USING ERRCODE = 'out_of_memory'; END$$"
    )
    reference_table18.run("UPDATE creditsd.installation SET functions = creditsd.functions_digest(true)")
    with capture_logs() as logs:
        async with running(settings, MemorySink()):

            async def pauses() -> list[float]:
                return [event["next_try_seconds"] for event in logs if event["event"] == "daemon.interrupted"]

            found = await eventually(pauses, lambda seconds: len(seconds) == 4)
    assert found[3] > 2 * found[0]  # 0.8 s at least, and 0.2 s at most
    await schema.uninstall(settings)


async def test_a_pool_gives_up_on_a_server_that_is_away_and_tries_at_once_when_it_is_asked(settings: Settings) -> None:
    # A pool left to itself would try after 1, 2, 4 … 64 seconds, and whoever asks would wait for that.
    at = conninfo_to_dict(settings.dsn)
    async with Proxy(str(at["host"]), int(str(at["port"]))) as proxy:
        dsn = make_conninfo(settings.dsn, host=proxy.host, port=proxy.port)
        async with pool(dsn, purpose="test", max_size=2, patience_seconds=0.5) as pooled:
            async with borrowed(pooled) as connection:
                await connection.execute("SELECT")
            await proxy.stop()
            for _ in range(3):
                with pytest.raises(DatabaseUnavailable):
                    async with borrowed(pooled):
                        pass

            async def size() -> int:
                return pooled.get_stats().get("pool_size", 0)

            await eventually(size, lambda found: found == 0)
            await proxy.start()
            pooled.timeout = PATIENCE_SECONDS
            async with borrowed(pooled) as connection:
                await connection.execute("SELECT")


END = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = %s AND application_name = %s"


async def test_what_a_person_asks_of_a_session_that_was_ended_meanwhile_is_told_in_one_line(
    reference_table: Database,
) -> None:
    # It was called a bug, of a `creditsd forget` that had waited for a sink.
    settings = await installed(reference_table)
    async with Eraser.opened(settings) as eraser, Inspector.opened(settings, purpose="test") as inspector:
        for purpose in ("forget", "test"):
            assert reference_table.run(END, [reference_table.name, f"creditsd {purpose}"]) == [(True,)]
        with pytest.raises(DatabaseUnavailable):
            await eraser.forget(USER)
        with pytest.raises(DatabaseUnavailable):
            await inspector.status()
