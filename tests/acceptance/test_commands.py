"""What each command prints and does, as somebody's script relies on it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from creditsd import __version__
from creditsd.cli.app import command_line
from tests.acceptance.command import COMMAND, creditsd, environment, running
from tests.acceptance.conftest import ONE, TWO, Operator
from tests.conftest import eventually

COMMANDS = (
    "install", "uninstall", "run", "get", "watch", "explain", "backfill", "status", "doctor", "healthcheck", "config",
    "demo", "bench",
)  # fmt: skip
KEYS = [
    "user_id",
    "version",
    "updated_at",
    "credits",
    "membershipStatus",
    "planType",
    "canBuy",
    "hasEverHadSubscription",
    "message",
    "subscription_id",
    "membership",
    "expires_at",
]


async def test_the_version() -> None:
    done = await creditsd("--version", env=environment())
    assert (done.code, done.out, done.err) == (0, f"creditsd {__version__}\n", "")


def test_python_m_creditsd_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "creditsd", "--version"], env=environment(), capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (f"creditsd {__version__}\n".encode(), b"")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    shown = CliRunner().invoke(command_line(), [command, "--help"], prog_name="creditsd")
    assert shown.exit_code == 0
    assert f"creditsd {command}" in shown.output
    assert len(shown.output.splitlines()) > 5


async def test_the_help_lists_every_command() -> None:
    done = await creditsd("-h", env=environment())
    assert done.code == 0
    assert all(re.search(rf"│ {command} +\w", done.out) for command in COMMANDS)
    assert "CREDITSD_" in done.out


async def test_get_answers_with_the_total_as_it_is_now(installed: Operator) -> None:
    done = await installed.creditsd("get", ONE)
    assert (done.code, done.err) == (0, "")
    assert list(done.json) == ["success", "data"]
    data = done.json["data"]
    assert list(data) == KEYS
    assert data | {"version": 0, "updated_at": "", "message": ""} == {
        "user_id": ONE,
        "version": 0,
        "updated_at": "",
        "credits": 120,
        "membershipStatus": "active",
        "planType": "subscription",
        "canBuy": False,
        "hasEverHadSubscription": True,
        "message": "",
        "subscription_id": "sub_1",
        "membership": "Pro",
        "expires_at": "2126-12-22T00:00:00Z",
    }
    assert "120 credits" in data["message"]


async def test_a_user_nobody_has_heard_of_has_nothing(installed: Operator) -> None:
    done = await installed.creditsd("get", "00000000-0000-0000-0000-00000000ffff")
    assert done.code == 0
    assert done.json["success"] is True
    data = done.json["data"]
    assert (data["credits"], data["membershipStatus"], data["planType"], data["canBuy"]) == (0, "none", "none", True)


async def test_status_as_json(installed: Operator, tmp_path: Path) -> None:
    before = (await installed.creditsd("status")).json
    assert (before["leader_pid"], before["doorbell"]) == (None, "nobody")
    assert [(each["name"], each["state"]) for each in before["sinks"]] == [("redis", "new")]
    assert before["sentence"] == "Nobody leads: start `creditsd run`. redis: nothing has been told yet."
    async with running(tmp_path, env=installed.env) as daemon:
        await daemon.until_ready()
        asked = await asyncio.gather(installed.creditsd("status"), installed.creditsd("status", "--json"))
        for done in asked:
            status = done.json
            assert isinstance(status["leader_pid"], int)
            assert status["doorbell"] in ("asleep", "asking", "awake")
            assert status["resyncing"] is None
            (sink,) = status["sinks"]
            assert sink["name"] == "redis"
            assert sink["last_error"] is None
            assert {"cursor", "queue", "delivered"} <= sink.keys()


async def test_status_with_the_credentials_of_a_unit(installed: Operator, tmp_path: Path) -> None:
    # docs/deploy.md: sudo CREDENTIALS_DIRECTORY=/run/credentials/creditsd.service creditsd status
    credentials = {"creditsd.dsn": installed.database.dsn, "creditsd.sinks": installed.env["CREDITSD_SINKS"]}
    for name, secret in credentials.items():
        (tmp_path / name).write_text(f"{secret}\n")
    done = await creditsd("status", env=environment(CREDENTIALS_DIRECTORY=str(tmp_path)))
    assert done.code == 0, done.err
    assert [(each["name"], each["state"]) for each in done.json["sinks"]] == [("redis", "new")]
    (tmp_path / "creditsd.dsn").write_text(f"{installed.database.dsn} dbname=nowhere\n")
    other = await creditsd("status", env=environment(CREDENTIALS_DIRECTORY=str(tmp_path)))
    assert (other.code, 'database "nowhere" does not exist' in other.err) == (78, True), other


async def test_explain_as_json(installed: Operator, tmp_path: Path) -> None:
    async with running(tmp_path, env=installed.env) as daemon:
        await daemon.until_ready()
        await daemon.until("/livez", lambda answer: answer[1]["sinks"]["redis"] == "current")
        explained = (await installed.creditsd("explain", ONE)).json
    assert list(explained) == ["total", "stored", "problems", "rows", "hints", "sinks"]
    assert [(row["credits"], row["counts"]) for row in explained["rows"]] == [(100, True), (20, True), (55, False)]
    assert "ended at 2020-01-01" in explained["rows"][2]["why"]
    assert list(explained["total"]) == list(explained["stored"]) == KEYS
    assert explained["sinks"] == {"redis": "current"}


async def test_watch_prints_the_totals_that_are_and_then_every_newer_one(installed: Operator, tmp_path: Path) -> None:
    async with running(tmp_path, env=installed.env) as daemon:
        await daemon.until_ready()
        watching = await asyncio.create_subprocess_exec(
            COMMAND, "watch", ONE, env=installed.env, stdout=asyncio.subprocess.PIPE
        )
        assert watching.stdout is not None
        try:
            first = orjson.loads(await watching.stdout.readline())
            assert (first["user_id"], first["credits"]) == (ONE, 120)
            installed.database.run(f"UPDATE public.user_credits SET credits = 8 WHERE user_id = '{TWO}'")
            installed.database.run("UPDATE public.user_credits SET credits = 21 WHERE credits = 20")
            newer = orjson.loads(await watching.stdout.readline())
            assert (newer["user_id"], newer["credits"]) == (ONE, 121)
            assert newer["version"] > first["version"]
        finally:
            watching.terminate()
            await watching.communicate()


async def test_backfill_without_a_daemon_and_with_one(installed: Operator, tmp_path: Path) -> None:
    done = await installed.creditsd("backfill")
    assert done.code == 0
    assert "no daemon runs" in done.err
    assert installed.database.run("SELECT user_id::text, credits FROM creditsd.balances ORDER BY 1") == [
        (ONE, 120),
        (TWO, 0),
    ]
    async with running(tmp_path, env=installed.env) as daemon:
        await daemon.until_ready()
        done = await installed.creditsd("backfill")
        assert done.code == 0
        assert "done by the daemon" in done.err
        assert daemon.logged("balances.resync_done")[-1]["users"] == 2


async def test_config_masks_what_is_secret(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "creditsd.toml"
    file.write_text(
        'dsn = "postgresql://app:geheim1@db/app"\n[[sinks]]\nname = "hook"\nurl = "webhook+https://u:geheim2@x.example/"\n'
        'secret = "whsec_geheim3"\npasword = "geheim6"\n[http]\napi_keys = ["geheim4"]\njwt_secret = "geheim5"\n'
        '[[http.servers]]\nname = "billing"\nkey = "geheim7"\n[[http.servers]]\nname = "shop"\nkey = "geheim8"\n'
        "requests_per_second = 5\n"
    )
    env = environment(CREDITSD_CONFIG=str(file), CREDITSD_CAN_BUY="always")
    done = await creditsd("config", env=env)
    assert done.code == 0, done.err
    assert "geheim" not in done.out + done.err
    shown = tomllib.loads(done.out)
    assert shown["can_buy"] == "always"
    assert shown["sinks"][0]["name"] == "hook"
    assert "db/app" in shown["dsn"]
    assert shown["http"]["servers"] == [
        {"name": "billing", "key": "***"},
        {"name": "shop", "key": "***", "requests_per_second": 5.0},
    ]
    assert shown["sinks"][0]["pasword"] == "***"
    assert "unknown option 'pasword'" in done.err


async def test_install_prints_what_it_would_do_and_psql_can_do_it(operator: Operator, tmp_path: Path) -> None:
    printed = await operator.creditsd("install", "--print")
    assert printed.code == 0
    named = await operator.creditsd("install", "--print", "--role", "worker", "--reader", "authenticated")
    for role in ("worker", "authenticated"):
        grant = f'GRANT USAGE ON SCHEMA creditsd TO "{role}";'
        assert grant in named.out.splitlines()
        assert grant not in printed.out.splitlines()
    assert not operator.installed()
    operator.database.psql(printed.out)
    assert (await operator.creditsd("install")).err == "nothing to do: everything is installed\n"
    async with running(tmp_path, env=operator.env) as daemon:
        await daemon.until_ready()


async def test_uninstall_leaves_the_schema_as_it_was(operator: Operator) -> None:
    before = operator.database.pg_dump("--schema-only")
    await operator.install()
    done = await operator.creditsd("uninstall")
    assert (done.code, done.out) == (0, "")
    assert "dropped the schema creditsd" in done.err
    assert operator.database.pg_dump("--schema-only") == before
    assert (await operator.creditsd("uninstall")).err == "nothing to do: creditsd is not installed\n"


async def test_everything_works_for_a_restricted_role_also_after_an_upgrade(operator: Operator, tmp_path: Path) -> None:
    role = f"daemon_{operator.database.name}"
    operator.database.run(f"CREATE ROLE {role} LOGIN")
    try:
        await operator.install("--role", role)
        poor = dict(operator.env, CREDITSD_DSN=operator.database.dsn.replace("user=postgres", f"user={role}"))
        assert f"user={role}" in poor["CREDITSD_DSN"]
        async with running(tmp_path, env=poor) as daemon:
            await daemon.until_ready()
            for command in ("get", "explain"):
                assert (await creditsd(command, ONE, env=poor)).code == 0
            assert (await creditsd("status", env=poor)).json["leader_pid"] is not None
            assert (await creditsd("backfill", env=poor)).code == 0
        assert (await creditsd("backfill", env=poor)).code == 0
        # Another setting makes the functions anew; the role keeps its rights without being named again.
        again = {"CREDITSD_SOURCE__ACTIVE_STATUSES": "active,trialing"}
        await operator.install(**again)
        done = await creditsd("get", ONE, env=poor | again)
        assert done.code == 0, done.out
    finally:
        operator.database.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_command_line_that_is_wrong_shows_how_it_goes() -> None:
    wrong = [["nonsense"], ["get"], ["status", "--jason"]]
    for done in await asyncio.gather(*(creditsd(*arguments, env=environment()) for arguments in wrong)):
        assert (done.code, done.out) == (2, "")
        assert "Usage: creditsd" in done.err
        assert "Traceback" not in done.err


async def test_a_row_without_a_user_or_without_credits_fails_nothing(installed: Operator, tmp_path: Path) -> None:
    async with running(tmp_path, env=installed.env) as daemon:
        await daemon.until_ready()
        installed.database.run(
            "INSERT INTO public.user_credits (user_id, credits, status, plan_type) VALUES "
            f"(NULL, 5, 'active', 'one_time'), (NULL, NULL, NULL, NULL), ('{TWO}', NULL, 'active', 'one_time')"
        )
        installed.database.run("UPDATE public.user_credits SET credits = NULL WHERE user_id IS NULL")
        installed.database.run(f"UPDATE public.user_credits SET user_id = NULL WHERE user_id = '{ONE}'")
        installed.database.run("DELETE FROM public.user_credits WHERE user_id IS NULL AND credits IS NULL")

        async def stored() -> list[tuple[object, ...]]:
            return installed.database.run("SELECT credits, membership_status FROM creditsd.balances ORDER BY user_id")

        await eventually(stored, lambda rows: rows == [(0, "none"), (0, "active")])
        assert not daemon.ended


async def test_run_says_at_its_start_what_it_runs_with_and_what_of_the_file_is_overridden(
    operator: Operator, tmp_path: Path
) -> None:
    await operator.install()
    file = tmp_path / "creditsd.toml"
    file.write_text('can_buy = "always"\n[[sinks]]\nname = "hook"\nurl = "stdout:"\n')
    settings = {"CREDITSD_CONFIG": str(file), "CREDITSD_SINKS": "stdout:", "CREDITSD_CAN_BUY": "no_credits"}
    async with running(tmp_path, env=operator.env | settings) as daemon:
        await daemon.until_ready()
        (started,) = daemon.logged("daemon.started")
        assert started.items() >= {"config": str(file), "table": "public.user_credits", "sinks": ["stdout"]}.items()
        can_buy, sinks = daemon.logged("settings.overridden")
        assert (can_buy["level"], can_buy["used"], can_buy["unused"]) == (
            "info", "CREDITSD_CAN_BUY", f"{file}: can_buy",
        )  # fmt: skip
        assert (sinks["level"], sinks["used"], sinks["unused"]) == ("warning", "CREDITSD_SINKS", f"{file}: sinks")
        assert await daemon.end() == 0
