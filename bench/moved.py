"""Which targets moved against the figures that are kept, and by how much."""

from __future__ import annotations

from bench.sheet import Sheet
from bench.targets import Kept, Target, reached

LEAST_MOVE = 0.1  # of the kept figure; what is less is not told from noise


def sheet(before: Kept, now: Kept) -> Sheet:
    """Compare the targets of what was measured with those that were kept before."""
    were = {each.what: each for each in reached(before)}
    rows = [_row(were[each.what], each) for each in reached(now) if each.what in were and _moved(were[each.what], each)]
    rows += [
        [each.what, "", each.reached.as_ratio(), "new", _met(each)] for each in reached(now) if each.what not in were
    ]
    title = f"targets that moved by a tenth and out of the span that was kept, or are met or missed anew: {len(rows)}"
    return Sheet(title, ["", "kept", "now", "moved", "met"], rows)


def _row(was: Target, now: Target) -> list[str]:
    return [now.what, was.reached.as_ratio(), now.reached.as_ratio(), f"{_change(was, now):+.0%}", _met(now)]


def _moved(was: Target, now: Target) -> bool:
    low, high = min(was.reached.values), max(was.reached.values)
    outside = not low <= now.reached.median <= high
    return was.met != now.met or (outside and abs(_change(was, now)) >= LEAST_MOVE)


def _change(was: Target, now: Target) -> float:
    return now.reached.median / was.reached.median - 1 if was.reached.median else 0.0


def _met(target: Target) -> str:
    return "yes" if target.met else "no"
