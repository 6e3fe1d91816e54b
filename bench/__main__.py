"""Measure everything side by side in one run: `make bench`, or `python -m bench --only writers --quick`."""

from __future__ import annotations

import argparse
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import line, moved, page, results
from bench.ground import Ground, Pace
from bench.load import SERVER_SETTINGS
from bench.plan import BUDGET_MINUTES, PARTS, Part, affordable
from tests.servers import Postgres, Valkey


def main() -> None:
    options = arguments()
    console = Console(width=None if Console().is_terminal else 180)
    if options.write:
        for path in page.write(options.results):
            console.print(f"wrote {path}", highlight=False)
        return
    if not line.installed():
        raise SystemExit("creditsd is not installed beside this Python: pip install -e '.[dev,bench]'")
    before = dict(results.kept(results.KEPT))
    chosen = {name: PARTS[name] for name in options.only or PARTS}
    announce(console, chosen, options)
    begun = time.monotonic()
    with Postgres(settings=SERVER_SETTINGS) as server, Valkey() as valkey:
        ground = Ground(server, valkey, console, quick=options.quick, large=options.large)
        parts = [(name, part) for name, part in chosen.items() if part.there]
        for number, (name, part) in enumerate(parts):
            pace = paced(part, options)
            if not (options.only or options.rounds or options.seconds or options.quick):
                spent = (time.monotonic() - begun) / 60
                pace = affordable(pace, part, [each for _, each in parts[number + 1 :]], spent)
            run(ground, name, part, pace, options.results)
    measured = {name: document for name, document in results.kept(options.results) if name in chosen}
    moved.sheet(before, measured).show(console)
    console.print(f"all of it took {(time.monotonic() - begun) / 60:.1f} minutes; raw figures: {options.results}")


def arguments() -> argparse.Namespace:
    """Read the command line; --quick is for seeing that it works, not for figures."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="measure only this (may be repeated)")
    parser.add_argument("--rounds", type=int, help="of each part, instead of its own number")
    parser.add_argument("--seconds", type=float, help="of each slice, instead of the part's own")
    parser.add_argument("--quick", action="store_true", help="one short round of everything, small tables, not kept")
    parser.add_argument("--large", action="store_true", help="growth at 5 M users, too")
    parser.add_argument("--write", action="store_true", help="only write the kept figures and plots into docs")
    parser.add_argument("--results", type=Path, help="where the raw figures are kept, a file each part")
    options = parser.parse_args()
    options.results = options.results or (results.SCRATCH if options.quick else results.KEPT)
    return options


def paced(part: Part, options: argparse.Namespace) -> Pace:
    """Take the part's own pace where nothing else was asked for."""
    rounds = options.rounds or (1 if options.quick else part.pace.rounds)
    return Pace(rounds, options.seconds or (min(1, part.pace.seconds) if options.quick else part.pace.seconds))


def announce(console: Console, chosen: dict[str, Part], options: argparse.Namespace) -> None:
    """Say what is to come and how long that takes."""
    plan = Table("part", "measures", "rounds", "seconds each", "minutes", title="the plan", title_justify="left")
    for name, part in chosen.items():
        pace = paced(part, options)
        seconds = f"{pace.seconds:g}" if pace.seconds else ""
        minutes = f"{part.minutes:g}" if pace == part.pace else ""
        plan.add_row(name, part.about, str(pace.rounds), seconds, minutes if part.there else "not there")
    console.print(plan)
    if not (options.quick or options.rounds or options.seconds):
        total = sum(part.minutes for part in chosen.values() if part.there)
        console.print(
            f"about {total:.0f} minutes on a quiet machine of 2 cores; rounds are left out where it comes to more than "
            f"{BUDGET_MINUTES:.0f}; load before {os.getloadavg()[0]:.1f}",
            highlight=False,
        )


def run(ground: Ground, name: str, part: Part, pace: Pace, into: Path) -> None:
    """Measure, print and keep one part: a later one that fails takes nothing with it."""
    begun, load = time.monotonic(), os.getloadavg()[0]
    ground.console.print(f"[bold]{name}[/bold]: {part.about}")
    module = part.load()
    found = module.measure(ground, pace)
    for sheet in module.sheets(found):
        sheet.show(ground.console)
    took = time.monotonic() - begun
    described = {**machine(ground.server), "load_before": round(load, 2), "took_seconds": round(took, 1)}
    results.keep(into, name, {"machine": described, "rounds": pace.rounds, "found": found})
    ground.say(f"{name} took {took:.0f} s")


def machine(server: Postgres) -> dict[str, Any]:
    """Describe what the figures were measured on."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "postgresql": server.psql("SHOW server_version").strip(),
        "settings": server.settings,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
