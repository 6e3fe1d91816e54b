"""The table of a soak, for a terminal and for the documentation."""

from __future__ import annotations

import os
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.sheet import Sheet
from tests.faults.soak.campaign import Campaign, Outcome
from tests.faults.soak.fault import NOTHING
from tests.faults.soak.schedule import KINDS

MARKS = re.compile(r"(<!-- soak -->\n).*?(<!-- end of soak -->)", re.DOTALL)
OVERLAPPING = "two of them at once"


def sheet(campaign: Campaign) -> Sheet:
    """A row for each kind of fault that happened."""
    by_name: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in campaign.outcomes:
        by_name[outcome.name if outcome.name in KINDS or outcome.faults < 2 else OVERLAPPING].append(outcome)
    order = [name for name in (*KINDS, OVERLAPPING) if name in by_name]
    return Sheet(
        "seconds from a fault's end until everyone is told the truth",
        ("fault", "times", "p50, s", "longest, s", "anomalies"),
        [_row(name, by_name[name]) for name in order],
    )


def _row(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    seconds = [outcome.recovery_seconds for outcome in outcomes]
    mend = f", then `{KINDS[name].mend}`" if name in KINDS and KINDS[name].mend else ""
    return [
        name + mend,
        str(len(outcomes)),
        f"{statistics.median(seconds):.2f}",
        f"{max(seconds):.1f}",
        str(sum(bool(outcome.anomalies) for outcome in outcomes)),
    ]


def summary(campaign: Campaign, command: str) -> str:
    """Say in a paragraph what was run, on what, and what came of it."""
    outcomes = campaign.outcomes
    faults = sum(outcome.faults for outcome in outcomes)
    kinds = {name for outcome in outcomes for name in outcome.name.split(" + ") if name in KINDS} - {NOTHING}
    anomalies = sum(bool(outcome.anomalies) for outcome in outcomes)
    failed = sum(text.startswith("a write") for outcome in outcomes for text in outcome.anomalies)
    worlds = sum(outcome.name == "beginning" for outcome in outcomes)
    calm = [late for outcome in outcomes if outcome.name == NOTHING for late in outcome.late_seconds]
    broken = [late for outcome in outcomes if outcome.name != NOTHING for late in outcome.late_seconds]
    return (
        f"`make soak ARGS='{command}'`, {datetime.now(UTC):%Y-%m-%d}: "
        f"{campaign.spent_seconds / 60:.0f} minutes, {worlds} worlds, {faults} faults of {len(kinds)} kinds, "
        f"{campaign.written} transactions of the application, {campaign.told} totals told, **{anomalies} anomalies**. "
        f"Writes that failed: {campaign.excused} while PostgreSQL or the table was away, {campaign.serialization} for "
        f"their isolation level, {failed} for any other reason. From the end of a plan until "
        f"Redis's channel said so: where nothing else happened {_lateness(calm)}; during and after faults "
        f"{_lateness(broken)}. Load average at the end: {os.getloadavg()[2]:.0f} on {os.cpu_count()} cores."
    )


def _lateness(seconds: Sequence[float]) -> str:
    """Say how long some things took, and how many of them more than a second."""
    if not seconds:
        return "none ended"
    over = sum(each > 1 for each in seconds)
    return f"p50 {statistics.median(seconds):.2f} s, longest {max(seconds):.1f} s, {over} of {len(seconds)} over 1 s"


def write(campaign: Campaign, said: str, page: Path) -> None:
    """Put the summary and the table between the page's markers."""
    text = page.read_text(encoding="utf-8")
    if MARKS.search(text) is None:
        raise SystemExit(f"{page} has no place for it: put <!-- soak --> and <!-- end of soak --> there")
    made = f"\n{said}\n\n{sheet(campaign).markdown()}\n"
    page.write_text(MARKS.sub(lambda match: match[1] + made + match[2], text, count=1), encoding="utf-8")
