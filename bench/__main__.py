"""Measure everything side by side in one run: `make bench`, or `python -m bench --only writers --quick`."""

from __future__ import annotations

import argparse
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from bench import catchup, latency, line, webhooks, writers
from bench.load import SERVER_SETTINGS
from tests.servers import Postgres, Valkey

RESULTS = Path(__file__).with_name("results") / "latest.json"
PARTS = ("writers", "latency", "catchup", "webhooks")


def main() -> None:
    options = arguments()
    console = Console()
    with_creditsd = line.installed()
    if not with_creditsd:
        console.print("creditsd is not installed beside this Python: only what it is compared with is measured")
    with Postgres(settings=SERVER_SETTINGS) as server, Valkey() as valkey:
        results: dict[str, Any] = {"machine": machine(server)}
        console.print(
            "PostgreSQL {postgresql}, {cores} cores, load before {load_before:.1f}".format(**results["machine"])
        )
        for part in options.only or PARTS:
            results[part] = measure(part, server, valkey, options, console, with_creditsd=with_creditsd)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
    console.print(f"raw figures: {RESULTS}")


def arguments() -> argparse.Namespace:
    """Read the command line; --quick is for seeing that it works, not for figures."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="measure only this (may be repeated)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of writing, for each variant in each round")
    parser.add_argument("--changes", type=int, default=200, help="of each latency block")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the backfill")
    parser.add_argument("--users", type=int, default=200_000, help="of the backfill")
    parser.add_argument("--webhooks", type=int, default=20_000, help="of each contender in each round")
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.changes = 1, 1, 50
        options.rows, options.users, options.webhooks = 50_000, 10_000, 5_000
    return options


def measure(
    part: str,
    server: Postgres,
    valkey: Valkey,
    options: argparse.Namespace,
    console: Console,
    *,
    with_creditsd: bool,
) -> Any:
    """Measure and print one part, and return its raw figures."""
    match part:
        case "writers":
            found = writers.variants(server, valkey, with_creditsd=with_creditsd)
            cells = []
            for cell in writers.measure(server, found, options.rounds, options.seconds):
                cells.append(cell)
                console.print(f"[dim]{cell['flush']} flush, {cell['clients']} clients: done")
            writers.show(console, cells)
            return cells
        case "latency":
            rounds, changes = options.rounds, options.changes
            blocks = latency.measure(server, valkey, rounds=rounds, changes=changes, with_creditsd=with_creditsd)
            latency.show(console, blocks)
            return {"summary": latency.summarise(blocks), "milliseconds": blocks}
        case "webhooks":
            rates = webhooks.measure(
                server, valkey, rounds=options.rounds, users=options.webhooks, with_creditsd=with_creditsd
            )
            webhooks.show(console, rates)
            return rates
        case _:
            if not with_creditsd:
                return None
            stages = catchup.measure(server, valkey, rows=options.rows, users=options.users)
            catchup.show(console, stages)
            return stages


def machine(server: Postgres) -> dict[str, Any]:
    """Describe what the figures were measured on."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "postgresql": server.psql("SHOW server_version").strip(),
        "settings": server.settings,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
