"""A daemon of one version beside the schema, and the daemons, of the next: for as long as a rolling upgrade takes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.acceptance.another_version import AnotherVersion
from tests.acceptance.command import creditsd, running
from tests.faults.conftest import Line
from tests.faults.truth import witnessing

COLUMN = "ALTER TABLE creditsd.sinks ADD COLUMN of_the_next text;\n"


@pytest.fixture
def newer(tmp_path: Path) -> AnotherVersion:
    """The next version, as yet without a difference."""
    return AnotherVersion.made(tmp_path / "newer")


async def installed(line: Line, version: AnotherVersion, **settings: str) -> list[str]:
    """Install as that version, and return what it says it did."""
    done = await creditsd("install", env=version.env(line.env) | settings)
    assert done.code == 0, done.err
    return done.err.splitlines()


async def test_an_upgrade_that_changes_only_comments_locks_nothing_of_the_applications_and_recomputes_nobody(
    line: Line, newer: AnotherVersion
) -> None:
    newer.add_migration("COMMENT ON COLUMN creditsd.balances.credits IS 'The sum.';\n")
    newer.replace("sql/functions/drain.sql", "AS $function$\n", "AS $function$\n-- Said otherwise.\n")
    newer.replace("sql/capture/functions.sql", "'Marks the user of a new row.'", "'Notes the user of a new row.'")
    newer.replace("sql/capture/functions.sql", "AS $function$\n", "AS $function$\n-- Said otherwise.\n")
    line = line.with_env(CREDITSD_SWEEP_HOURS="0")  # which would repair what is put wrong here
    async with line.leading() as daemon:
        versions = await line.run("SELECT user_id, version FROM creditsd.balances ORDER BY 1")
        await line.run("UPDATE creditsd.balances SET credits = credits + 1000000")  # whoever is recomputed is told
        async with line.holding("LOCK TABLE public.user_credits IN ACCESS EXCLUSIVE MODE"):
            said = await installed(line, newer, CREDITSD_LOCK_WAIT_SECONDS="1")
        assert [each for each in said if "recomputed" in each or "triggers" in each] == []
        assert "made the functions" in said
        assert await daemon.end() == 0
    async with running(line.directory, env=newer.env(line.env)) as daemon:
        assert (await daemon.until_logged("daemon.led"))["resyncing"] is None
        assert await daemon.end() == 0
    assert await line.run("SELECT user_id, version FROM creditsd.balances ORDER BY 1") == versions


async def test_an_older_leader_leads_on_beside_a_newer_schema_until_a_newer_daemon_takes_over(
    line: Line, newer: AnotherVersion
) -> None:
    newer.add_migration(COLUMN)
    newer.replace("sql/functions/drain.sql", "\nDECLARE\n", "\nDECLARE\n    of_the_next text;\n")
    async with witnessing(line.valkey) as witness, line.leading() as older:
        async with line.load(clients=2) as load:
            await load.until_written(100)
            await installed(line, newer)
            await load.until_written(300)
            async with running(line.directory, env=newer.env(line.env)) as next_one:
                await next_one.until_state("standby")
                await load.until_written(100)
                assert await older.end() == 0
                await next_one.until_state("leading")
                await load.until_written(100)
                load.end()
                await line.until_true()
                assert await next_one.end() == 0
        assert await witness.agrees(line.valkey)
        assert witness.backwards == []


async def test_an_older_standby_takes_nothing_over_where_the_schema_is_newer(line: Line, newer: AnotherVersion) -> None:
    async with line.daemon() as first:
        await first.until_ready()
        async with line.daemon() as older:
            await older.until_state("standby")
            number = newer.add_migration(COLUMN)
            await installed(line, newer)
            first.send(signal.SIGKILL)
            await older.until_logged_with("daemon.interrupted", f"the schema is at migration {number}")
            async with running(line.directory, env=newer.env(line.env)) as next_one:
                await next_one.until_ready()
                await next_one.until_state("leading")
                async with line.load(clients=2) as load:
                    await load.until_written(100)
                await line.until_true()
                assert await next_one.end() == 0
            assert older.logged("daemon.led") == []
            assert not older.ended


async def test_an_older_leader_steps_down_with_one_line_where_the_newer_schema_lacks_what_it_calls(
    line: Line, newer: AnotherVersion
) -> None:
    number = newer.add_migration(COLUMN)
    newer.replace("sql/functions/drain.sql", "history_days integer\n)", "history_days integer,\n    more integer\n)")
    newer.replace("sql/queries/drained.sql", "%(history_days)s::integer\n", "%(history_days)s::integer, 0\n")
    async with line.leading() as older:
        async with line.load(clients=2) as load:
            await load.until_written(50)
            await installed(line, newer)
            await older.until_logged_with("daemon.interrupted", f"the schema is at migration {number}")
            async with running(line.directory, env=newer.env(line.env)) as next_one:
                await next_one.until_state("leading")
                load.end()
                await line.until_true()
                assert await next_one.end() == 0
        said = [each["reason"] for each in older.logged("daemon.interrupted")]
        assert [each for each in said if "creditsd install" in each] == [], "an older install is refused"
        assert said[-1].endswith("upgrade creditsd")
