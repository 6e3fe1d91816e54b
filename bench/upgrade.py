"""Upgrade from an older commit to this one, its own daemon and an application at work all the while:
`python -m bench.upgrade COMMIT`.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.acceptance.command import Running, creditsd, environment, running
from tests.conftest import eventually
from tests.faults.load import Load, fill
from tests.faults.truth import held, witnessing, wrong_at_last
from tests.servers import REFERENCE_TABLE, Postgres, Valkey

ROOT = Path(__file__).parents[1]
LEADS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'creditsd leader'"


async def main() -> None:
    options = arguments()
    with ExitStack() as stack:
        server, valkey = stack.enter_context(Postgres()), stack.enter_context(Valkey())
        directory = Path(stack.enter_context(TemporaryDirectory()))
        check_out(options.commit, directory)
        now = environment(CREDITSD_DSN=server.dsn(), CREDITSD_SINKS=valkey.url)
        then = {**now, "PYTHONPATH": str(directory)}
        server.psql(REFERENCE_TABLE)
        fill(server.dsn(), options.users)
        await installed(then)
        async with witnessing(valkey) as witness:
            load = Load(server.dsn(), options.users, options.clients, 0.005, users_of_their_own=True)
            async with running(directory, env=then) as older, load:
                await eventually(lambda: told(valkey), lambda users: users > options.users // 2)  # some are deleted
                await load.until_written(500)
                before, load.longest_seconds = load.longest_seconds, 0.0
                began = time.monotonic()
                await installed(now)
                install_seconds, waited = time.monotonic() - began, load.longest_seconds
                heard = witness.heard
                await load.until_written(1000)
                beside = witness.heard - heard
                async with running(directory, env=now) as newer:
                    await newer.until_ready()
                    await older.end()
                    await newer.until_state("leading")
                    await load.until_written(500)
                    load.end()
                    wrong = await wrong_at_last(server.dsn(), valkey)
                    await newer.end()
            said = complaints(older)
    print(
        f"{options.commit}: install {install_seconds:.1f} s, in which a write took {waited:.2f} s at most (before: "
        f"{before:.2f} s), {len(load.failures)} of {load.written} failed; {beside} totals told by the older daemon "
        f"beside the newer schema; wrong at the end: {len(wrong)}; older after newer: {len(witness.backwards)}"
    )
    print(*said, sep="\n")
    raise SystemExit(1 if wrong or witness.backwards or load.failures else 0)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.upgrade", description=__doc__)
    parser.add_argument("commit", help="whose schema and daemon to begin with")
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--clients", type=int, default=4)
    return parser.parse_args()


def check_out(commit: str, folder: Path) -> None:
    """Put the files of a commit into a folder, to be run from there."""
    archive = subprocess.run(["git", "archive", commit], check=True, cwd=ROOT, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "x", "-C", folder], check=True, input=archive)
    command = folder / "creditsd" / "__main__.py"
    if not command.exists():  # the command was once elsewhere
        command.write_text("from creditsd.cli import main\n")


async def installed(env: dict[str, str]) -> None:
    done = await creditsd("install", env=env)
    if done.code != 0:
        raise SystemExit(done.err)


async def told(valkey: Valkey) -> int:
    """How many users have been told anything."""
    return len(await held(valkey))


def complaints(daemon: Running) -> list[str]:
    """What the older daemon had to say of the newer schema, each once."""
    return list(dict.fromkeys(str(each["reason"]) for each in daemon.logged("daemon.interrupted")))


if __name__ == "__main__":
    asyncio.run(main())
