"""Kill the daemon with -9 ten times during a minute of writing, and compare every total: `python -m bench.kill9`."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from tests.acceptance.command import creditsd, environment
from tests.faults.kill import Killings, Outcome
from tests.faults.load import fill
from tests.servers import REFERENCE_TABLE, Postgres, Valkey


async def main() -> None:
    options = arguments()
    with Postgres(settings={"fsync": "on"}) as server, Valkey() as valkey, TemporaryDirectory() as directory:
        server.psql(REFERENCE_TABLE)
        env = environment(CREDITSD_DSN=server.dsn(), CREDITSD_SINKS=valkey.url)
        done = await creditsd("install", env=env)
        if done.code != 0:
            raise SystemExit(done.err)
        fill(server.dsn(), options.users)
        found = await Killings(Path(directory), env, server.dsn(), valkey).happen(
            kills=options.kills,
            seconds=options.seconds,
            users=options.users,
            clients=options.clients,
            pause_seconds=0.0,
        )
    show(found)


def arguments() -> argparse.Namespace:
    """Read the command line; without it, what the project promises."""
    parser = argparse.ArgumentParser(prog="python -m bench.kill9", description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=8)
    return parser.parse_args()


def show(found: Outcome) -> None:
    """Print the outcome, and fail where it is not as promised."""
    right = not found.wrong and not found.backwards and found.agrees
    Console().print(
        f"{found.kills} kills in {found.seconds:.0f} s of writing: {found.written} transactions, "
        f"{found.published} totals published.\n"
        f"Up again, every total was the truth {found.caught_up_seconds:.1f} s after the last write "
        f"(start of the process included).\n"
        f"wrong totals: {len(found.wrong)}; versions that went back: {len(found.backwards)}; "
        f"keys stand at the newest version published: {'yes' if found.agrees else 'no'}",
        highlight=False,
    )
    raise SystemExit(0 if right else 1)


if __name__ == "__main__":
    asyncio.run(main())
