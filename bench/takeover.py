"""Take the lead away from one of two daemons, again and again, during a write load: `python -m bench.takeover`."""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from tests.acceptance.command import creditsd, environment
from tests.faults.another_machine import another_machine
from tests.faults.load import fill
from tests.faults.takeover import FAULTS, Outcome, Takeovers
from tests.servers import REFERENCE_TABLE, Postgres, Valkey


async def main() -> None:
    options = arguments()
    random.seed(options.seed)
    faults = [fault for fault in FAULTS if options.only in (None, fault)] * options.times
    random.shuffle(faults)
    with ExitStack() as stack:
        machines = [stack.enter_context(another_machine(which)) for which in (0, 1)]
        addresses = ",".join(["127.0.0.1", *(machine.here for machine in machines)])
        server = stack.enter_context(Postgres(settings={"fsync": "on", "listen_addresses": addresses}))
        valkey = stack.enter_context(Valkey("--bind", *addresses.split(","), "--protected-mode", "no"))
        directory = stack.enter_context(TemporaryDirectory())
        for machine in machines:
            server.admit(machine.network)
        server.psql(REFERENCE_TABLE)
        done = await creditsd("install", env=environment(CREDITSD_DSN=server.dsn()))
        if done.code != 0:
            raise SystemExit(done.err)
        fill(server.dsn(), options.users)
        found = await Takeovers(server, valkey, machines, Path(directory)).happen(
            faults, users=options.users, clients=options.clients, pause_seconds=0.005
        )
    show(found)


def arguments() -> argparse.Namespace:
    """Read the command line; without it, what the project promises."""
    parser = argparse.ArgumentParser(prog="python -m bench.takeover", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="how often each fault")
    parser.add_argument("--only", choices=FAULTS, help="one of the faults")
    parser.add_argument("--seed", type=int, default=1, help="of the order they come in")
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=4)
    return parser.parse_args()


def show(found: Outcome) -> None:
    """Print the outcome, and fail where it is not as promised."""
    table = Table("the leader is", "times", "median, s", "slowest, s", "published by it after that")
    deposed = Counter(fault for fault, *_ in found.deposed)
    for fault, seconds in found.seconds.items():
        times, median, slowest = str(len(seconds)), f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"
        table.add_row(fault, times, median, slowest, str(deposed[fault]))
    console = Console(width=120)
    console.print(table)
    console.print(
        f"{found.written} transactions, {found.published} totals published; wrong at the end: {len(found.wrong)}; "
        f"older after newer: {len(found.older)}",
        highlight=False,
    )
    raise SystemExit(1 if found.wrong or found.older or found.deposed else 0)


if __name__ == "__main__":
    asyncio.run(main())
