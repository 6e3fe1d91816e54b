"""Break it at random, from a seed: `make soak ARGS='--minutes 60'`, or `python -m tests.faults.soak --seed 7`."""

from __future__ import annotations

import argparse
import math
import re
import signal
import sys
import time
from pathlib import Path

import uvloop
from rich.console import Console

from tests.faults.soak import report
from tests.faults.soak.campaign import Campaign, Plan
from tests.faults.soak.repeat import Repeat
from tests.faults.soak.schedule import KINDS

BUILD = Path(__file__).parents[3] / "build" / "soak"


def main() -> None:
    options = arguments()
    if options.list:
        sys.stdout.write("\n".join(KINDS) + "\n")
        return
    directory = BUILD / time.strftime("%Y%m%d-%H%M%S")
    campaign = Campaign(_plan(options), directory, _said)
    # Ends like Ctrl-C, with what was started; by a signal, since it is the loop that hears of those.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        uvloop.run(campaign.run())
    except KeyboardInterrupt:
        _said("ended by a signal: what follows is of what was done")
    finally:
        report.sheet(campaign).show(Console(width=120))
        summary = report.summary(campaign, _command())
        _said(summary)
        if options.write and campaign.outcomes:
            report.write(campaign, summary, options.write)
    if options.shrink and campaign.first_failure is not None:
        repeat = Repeat(campaign.plan, campaign.first_failure, directory, _said)
        uvloop.run(repeat.shrink(options.shrink, options.shrink_minutes * 60))
        _said(f"The least that was found to fail, after {repeat.reruns} reruns: make soak ARGS='{_repeated(repeat)}'")
    raise SystemExit(any(outcome.anomalies for outcome in campaign.outcomes))


def _plan(options: argparse.Namespace) -> Plan:
    chosen = [int(number) for number in options.only_faults.split(",")] if options.only_faults else []
    endless = options.alone or chosen
    return Plan(
        options.seed,
        math.inf if chosen else options.seconds or options.minutes * 60,
        options.world_seconds or (math.inf if endless else 300.0),
        options.worlds,
        options.at_once,
        only=[name for name in KINDS if any(part in name for part in options.only)] if options.only else (),
        alone=options.alone,
        world=options.world,
        numbers=chosen,
        ends_at_anomaly=bool(options.shrink),
    )


def _repeated(repeat: Repeat) -> str:
    """Say what was said on the command line, but for what is repeated."""
    said = re.sub(r" ?--(seed|shrink-minutes|minutes|seconds|world|only-faults)[ =]\S+", "", _command())
    said = re.sub(r" ?--shrink([ =]\d+)?(?= |$)", "", said)
    return f"{said} {repeat}".strip()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long in all")
    parser.add_argument("--seconds", type=float, help="the same in seconds")
    parser.add_argument(
        "--seed", type=int, default=1, help="of worlds, faults and writes; the same seed, the same again"
    )
    parser.add_argument(
        "--world-seconds", type=float, help="how long in each world: 300, or alone until each kind was there"
    )
    parser.add_argument("--worlds", type=int, default=1_000_000, help="how many worlds at most")
    parser.add_argument("--at-once", type=int, default=1, help="how many of them side by side")
    parser.add_argument("--alone", action="store_true", help="each kind once in each world, never two at once")
    parser.add_argument("--only", action="append", help="kinds of fault whose name has this in it; may be repeated")
    parser.add_argument(
        "--world", type=int, help="the world of this number alone, as a failure names it: SEED:WORLD:FAULT"
    )
    parser.add_argument("--only-faults", metavar="12,31", help="of what the seed draws there, these numbers alone")
    parser.add_argument(
        "--shrink",
        type=int,
        nargs="?",
        const=40,
        metavar="RERUNS",
        help="end at the first failure, and find the fewest faults that still fail, by so many reruns at most",
    )
    parser.add_argument("--shrink-minutes", type=float, default=60.0, help="and in so much time")
    parser.add_argument("--list", action="store_true", help="print the kinds of fault there are")
    parser.add_argument("--write", type=Path, help="write the table into this page, between its markers")
    return parser.parse_args()


def _command() -> str:
    """What was said on the command line, without where it is written."""
    words = (f'"{word}"' if " " in word else word for word in sys.argv[1:])
    return re.sub(r" ?--write[ =]\S+", "", " ".join(words))


def _said(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
