"""Take a webhook's receiver away during a load, and count what its return costs: `python -m bench.receiver_down`."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from tests.acceptance.command import creditsd, environment
from tests.faults.load import fill
from tests.faults.receiver_down import Absence, Outcome
from tests.servers import REFERENCE_TABLE, Postgres


async def main() -> None:
    options = arguments()
    with Postgres(settings={"fsync": "on"}) as server, TemporaryDirectory() as directory:
        server.psql(REFERENCE_TABLE)
        env = environment(CREDITSD_DSN=server.dsn())
        done = await creditsd("install", env=env)
        if done.code != 0:
            raise SystemExit(done.err)
        fill(server.dsn(), options.users)
        found = await Absence(Path(directory), env, server.dsn()).happen(
            seconds=options.seconds, users=options.users, clients=options.clients, pause_seconds=0.005
        )
    show(found)


def arguments() -> argparse.Namespace:
    """Read the command line; without it, what the project promises."""
    parser = argparse.ArgumentParser(prog="python -m bench.receiver_down", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=4)
    return parser.parse_args()


def show(found: Outcome) -> None:
    """Print the outcome, and fail where it is not as promised."""
    right = not found.wrong and found.late <= found.users
    Console(width=200).print(
        f"{found.seconds:.0f} s of writing to {found.users} users: {found.written} transactions, "
        f"{found.written_meanwhile} of them in the {found.away_seconds:.0f} s while the receiver was away.\n"
        f"Found to be back, it was sent {found.found_back} requests for what had changed until then "
        f"({found.late} of them older than its return); {found.requests} in all.\n"
        f"It held every user's current total {found.caught_up_seconds:.1f} s after the last write; "
        f"wrong totals: {len(found.wrong)}.",
        highlight=False,
    )
    raise SystemExit(0 if right else 1)


if __name__ == "__main__":
    asyncio.run(main())
