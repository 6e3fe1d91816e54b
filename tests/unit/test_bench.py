"""The bench: what it reports of its own measurements, and that every part has its place on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import moved, page, peers, results, targets
from bench.figure import figure, percentile
from bench.ground import Pace
from bench.latency import kept_up
from bench.plan import PARTS, Part, affordable
from bench.sheet import Sheet
from bench.writers import EMPTY, NO_TRIGGER, NOTIFY, RUNNING, STOPPED, sheets


def test_a_ratio_is_taken_round_by_round() -> None:
    mine, theirs = figure([10, 100, 40]), figure([20, 100, 50])
    assert mine.ratio_to(theirs).as_ratio() == "0.80 (0.50-1.00)"


@pytest.mark.parametrize(("percent", "expected"), [(50, 2), (99, 4), (100, 4), (1, 1)])
def test_a_percentile_is_one_of_the_sample(percent: float, expected: float) -> None:
    assert percentile([4, 1, 3, 2], percent) == expected


BLOCK = {"arrived": 100, "sent": 100, "p99": 5.0, "rate": 99, "asked": 100, "grew_ms_per_s": 1}


@pytest.mark.parametrize(
    "change",
    [{"arrived": 99}, {"p99": 2000.0}, {"rate": 80}, {"grew_ms_per_s": 400}],
    ids=["lost", "late", "slow writers", "growing"],
)
def test_who_does_not_keep_up_is_told_apart(change: dict[str, Any]) -> None:
    assert kept_up([BLOCK, BLOCK])
    assert not kept_up([BLOCK, BLOCK | change])


@pytest.mark.parametrize(("spent", "rounds"), [(0, 5), (10, 4), (13, 3), (40, 1)])
def test_rounds_are_left_out_where_time_gets_short(spent: float, rounds: int) -> None:
    part = Part("bench.writers", "", Pace(5, 2), 5.0)
    assert affordable(part.pace, part, [part], spent) == Pace(rounds, 2)


def test_a_peer_that_is_not_installed_says_how_to_get_it() -> None:
    with pytest.raises(peers.Missing, match=r"no-such-package.* pip install"):
        peers.versions("psycopg", "no-such-package")
    assert peers.versions("psycopg").startswith("psycopg 3.")


def test_a_target_is_met_by_its_median_and_none_is_made_of_what_was_not_measured() -> None:
    rounds = [{"resident_mib": 60.0, "queries_per_minute": 7.0}, {"resident_mib": 96.0, "queries_per_minute": 6.5}]
    made = targets.sheet({"idle": {"found": {"rounds": rounds}}})
    assert [row[1:] for row in made.rows] == [
        ["at most 77", "78.00 (60.00-96.00)", "no"],
        ["at most 6", "6.75 (6.50-7.00)", "no"],
    ]
    rounds[1]["resident_mib"] = 79.0
    assert targets.sheet({"idle": {"found": {"rounds": rounds}}}).rows[0][3] == "yes"


def idle(*resident_mib: float, queries: float = 5.0) -> dict[str, Any]:
    return {
        "idle": {"found": {"rounds": [{"resident_mib": mib, "queries_per_minute": queries} for mib in resident_mib]}}
    }


def test_a_target_has_moved_where_it_left_the_span_by_a_tenth_or_is_met_or_missed_anew() -> None:
    assert moved.sheet(idle(60, 61), idle(62, 62)).rows == []
    assert moved.sheet(idle(50, 75), idle(70, 70)).rows == []
    (row,) = moved.sheet(idle(60, 62), idle(70, 70)).rows
    assert row[1:] == ["61.00 (60.00-62.00)", "70.00 (70.00-70.00)", "+15%", "yes"]
    (row,) = moved.sheet(idle(76, 76), idle(78, 78)).rows
    assert row[3:] == ["+3%", "no"]
    assert moved.sheet({}, idle(70)).rows[0][3] == "new"
    assert moved.sheet(idle(70), {}).rows == []


def test_every_target_finds_its_figures() -> None:
    kept = dict(results.kept(results.KEPT))
    assert len(targets.sheet(kept).rows) > 20
    assert set(targets.PARTS) <= set(PARTS)


def test_every_peer_has_a_file() -> None:
    there = {path.stem for path in Path(peers.__file__).parent.glob("*.py")}
    assert there == {*peers.NAMES, "__init__", "totals"}


def test_a_sheet_is_a_table_on_the_page() -> None:
    text = Sheet("what it costs", ["", "a|b"], [["mine", "1"], ["yours", "2"]]).markdown()
    assert text == "What it costs:\n\n|  | a\\|b |\n|---|---|\n| mine | 1 |\n| yours | 2 |\n"


def test_every_part_has_its_place_on_the_page() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for name in PARTS:
        text = page.replaced(text, name, f"the figures of {name}\n")
    assert [line for line in text.splitlines() if line.startswith("the figures of ")] == [
        f"the figures of {name}" for name in sorted(PARTS, key=lambda part: text.index(f"figures: {part} -->"))
    ]
    assert text.startswith("# Performance")


def test_what_stands_around_the_figures_stays() -> None:
    text = "before\n<!-- figures: idle -->\nold\n<!-- end of figures -->\nafter <!-- end of figures -->"
    made = page.replaced(text, "idle", "new \\1\n")
    assert made == "before\n<!-- figures: idle -->\nnew \\1\n<!-- end of figures -->\nafter <!-- end of figures -->"


def test_the_writers_are_compared_with_no_trigger_an_empty_one_and_notify() -> None:
    tps = {NO_TRIGGER: [100.0], EMPTY: [80.0], NOTIFY: [10.0], STOPPED: [72.0], RUNNING: [50.0]}
    cell = {"flush": "slow", "rows": 1, "clients": 16, "tps": tps, "behind_seconds": {RUNNING: [0.5]}}
    found = {"cells": [cell, cell | {"rows": 100}], "statement": {key: [2.0] for key in tps}}
    ratios = dict(zip(sheets(found)[1].head, sheets(found)[1].rows[0], strict=True))
    assert ratios["stopped / none"].startswith("0.72")
    assert ratios["stopped / empty"].startswith("0.90")
    assert ratios["running / NOTIFY"].startswith("5.00")
