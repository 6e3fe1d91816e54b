"""What writers keep where the daemon has a core of its own: PostgreSQL and pgbench on one core, the daemon on another.

Run as `python -m bench.own_core`. Beside it the same with the daemon, and the Valkey it tells, on the server's core.
What it asks PostgreSQL to do is done on the server's core either way.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.figure import figure
from bench.ground import Ground, Pace
from bench.load import ONE_ROW, SERVER_SETTINGS, flush
from bench.processor import children
from bench.writers import NO_TRIGGER, RUNNING, STOPPED, Variant, cell, variants
from tests.servers import Postgres, Valkey

CLIENTS = (16, 64)
SERVER, OTHER = 0, 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.own_core", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each slice")
    options = parser.parse_args()
    pin(os.getpid(), SERVER)  # and what is started from here on
    with Postgres(settings=SERVER_SETTINGS) as server, Valkey() as valkey:
        ground = Ground(server, valkey, Console(width=120))
        with variants(ground, [NO_TRIGGER, STOPPED, RUNNING]) as found:
            for kind in ("ordinary", "slow"):
                flush(server, kind)
                for clients in CLIENTS:
                    compare(ground, found, Pace(options.rounds, options.seconds), kind, clients)


def compare(ground: Ground, found: Sequence[Variant], pace: Pace, kind: str, clients: int) -> None:
    """Measure with the daemon on the server's core and on the other, and say what the writers keep."""
    for where, core in (("on the server's core", SERVER), ("on the other core", OTHER)):
        for pid in children(os.getpid()):
            if pid != ground.server.pid:
                pin(pid, core)
        tps = {name: figure(rates) for name, rates in cell(ground, found, pace, clients, ONE_ROW)["tps"].items()}
        kept = ", ".join(f"{name} {tps[name].ratio_to(tps[NO_TRIGGER]).as_ratio()}" for name in (STOPPED, RUNNING))
        ground.say(f"{kind} flush, {clients} clients, the daemon {where}: {NO_TRIGGER} {tps[NO_TRIGGER]} tps; {kept}")


def pin(pid: int, core: int) -> None:
    """Let a process run on one core alone, with all its threads."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


if __name__ == "__main__":
    main()
