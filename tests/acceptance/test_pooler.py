"""Through a transaction pooler: `dsn` is shared with the application, `listen_dsn` is our own."""

from __future__ import annotations

from pathlib import Path

from creditsd.postgres import connections
from tests.acceptance.command import creditsd, running
from tests.acceptance.conftest import ONE, Operator
from tests.conftest import Database, eventually
from tests.faults.truth import held
from tests.servers import Valkey


async def test_nothing_is_set_in_a_session_that_may_be_the_applications_next(database18: Database) -> None:
    names = "synchronous_commit", "statement_timeout", "lock_timeout", "jit", "TimeZone"
    shown = "SELECT current_setting(name) FROM unnest(%s::text[]) AS name"
    database18.run(f"ALTER DATABASE {database18.name} SET statement_timeout = '20s'")
    before = database18.run(shown, (list(names),))
    async with connections.connected(database18.dsn, purpose="test", shared=True) as connection:
        assert await connections.rows(connection, shown, (list(names),)) == before
    async with (
        connections.pool(database18.dsn, purpose="test", max_size=1, shared=True) as pool,
        connections.borrowed(pool) as connection,
    ):
        assert await connections.rows(connection, shown, (list(names),)) == before


async def test_the_line_and_the_commands_work_with_both_ways_set(
    installed: Operator, valkey: Valkey, tmp_path: Path
) -> None:
    env = installed.env | {"CREDITSD_LISTEN_DSN": installed.database.dsn}
    assert (await creditsd("backfill", env=env)).code == 0
    async with running(tmp_path, env=env) as daemon:
        await daemon.until_ready()
        installed.database.run("UPDATE public.user_credits SET credits = 30 WHERE credits = 20")
        await eventually(lambda: held(valkey), lambda told: told.get(ONE, {}).get("credits") == 130)
        assert "done by the daemon" in (await creditsd("backfill", env=env)).err
        assert await daemon.end() == 0
