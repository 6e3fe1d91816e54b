"""The application alters its table while the daemon runs: docs/altering.md."""

from __future__ import annotations

import json
from pathlib import Path

from tests.acceptance.command import running
from tests.acceptance.conftest import ONE, Operator
from tests.conftest import eventually


async def test_a_mapped_column_is_altered_under_a_daemon_that_reads_it(installed: Operator, tmp_path: Path) -> None:
    async def stored() -> object:
        return installed.database.run(f"SELECT credits FROM creditsd.balances WHERE user_id = '{ONE}'")[0][0]

    async with running(tmp_path, env=installed.env) as daemon:
        await daemon.until_ready()
        installed.database.run("ALTER TABLE public.user_credits ALTER COLUMN credits TYPE numeric(12, 2)")
        # Nobody's write fails meanwhile, and nothing of it is missed.
        installed.database.run("UPDATE public.user_credits SET credits = 20.25 WHERE credits = 20")
        await installed.install()
        await eventually(stored, lambda amount: str(amount) == "120.25")
        await daemon.until_state("leading")
        assert await daemon.end() == 0


async def test_installing_again_under_a_running_daemon_is_taken_up_by_it(installed: Operator, tmp_path: Path) -> None:
    async def stored() -> object:
        return installed.database.run(f"SELECT credits FROM creditsd.balances WHERE user_id = '{ONE}'")[0][0]

    other = {"CREDITSD_SOURCE__ACTIVE_STATUSES": "active,trialing"}
    async with running(tmp_path, env=installed.env) as daemon:
        await daemon.until_ready()
        await installed.install(**other)
        installed.database.run("UPDATE public.user_credits SET credits = 30 WHERE credits = 20")
        await eventually(stored, lambda amount: amount == 130)
        assert not daemon.ended


async def test_what_could_hide_a_change_is_told_by_probe_status_and_figures_until_an_install(
    installed: Operator, tmp_path: Path
) -> None:
    mend = {"problem": "triggers are disabled on public.user_credits", "hint": "run `creditsd install`"}
    key = "an operator's key, long enough"

    async def sentence() -> str:
        return str((await daemon.ask("/v1/operator/state", key))[1]["data"]["sentence"])

    async with running(tmp_path, env=installed.env | {"CREDITSD_HTTP__OPERATOR_KEYS": json.dumps([key])}) as daemon:
        await daemon.until_ready()
        assert "creditsd_table_watched 1.0" in await daemon.figures()
        # A leader looks at once; by itself it would within half a minute.
        installed.database.run(
            "ALTER TABLE user_credits DISABLE TRIGGER ALL; SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'creditsd leader' AND datname = current_database()"
        )
        told = f"{mend['problem']}: {mend['hint']}"
        said = await daemon.until("/readyz", lambda found: found[0] == 503 and found[1]["problem"] == told)
        assert (said["ready"], said["alive"]) == (False, True)
        await eventually(sentence, lambda found: found == f"Somebody must mend this: {told}.")
        assert "creditsd_table_watched 0.0" in await daemon.figures()
        assert (await installed.creditsd("status", "--json")).json["problems"] == [mend]
        refused = await installed.creditsd("verify")
        assert (refused.code, refused.err) == (78, f"creditsd: {told}\n")
        done = await installed.creditsd("install")
        assert done.err.splitlines() == [
            "put the triggers on public.user_credits",
            "asked for everyone to be recomputed",
        ]
        await daemon.until_ready()
        assert (await installed.creditsd("install")).err == "nothing to do: everything is installed\n"
        assert (await installed.creditsd("status", "--json")).json["problems"] == []
        assert "creditsd_table_watched 1.0" in await daemon.figures()
        await eventually(sentence, lambda found: "mend" not in found)
        assert await daemon.end() == 0
