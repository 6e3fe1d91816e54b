"""What a terminal shows of a user's steps."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from rich.console import Console

from creditsd import screen
from creditsd.model import Total


def test_steps_are_shown_with_what_each_changed_where_that_can_be_said() -> None:
    first = replace(
        Total.nothing("ada"), version=1, credits=Decimal("0.5"), updated_at=datetime(2026, 5, 1, tzinfo=UTC)
    )
    more = replace(first, version=2, credits=Decimal(3), previous_json='{"credits": 0.5}', cause="backfill")
    less = replace(first, version=3, credits=Decimal(-2), previous_json='{"credits": 3}', membership="Pro")
    unknown = replace(first, version=4, credits=Decimal("NaN"), previous_json='{"credits": -2}')
    after = replace(first, version=5, credits=Decimal(7), previous_json='{"credits": "NaN"}')
    console = Console(width=120, record=True)
    screen.steps(console, [after, unknown, less, more, first])
    shown = [line.split() for line in console.export_text().splitlines()]
    assert shown[0] == ["time", "credits", "step", "status", "plan", "cause", "version"]
    assert [line[2:] for line in shown[1:]] == [
        ["7", "none", "none", "change", "5"],
        ["NaN", "none", "none", "change", "4"],
        ["-2", "-5", "none", "Pro", "change", "3"],
        ["3", "+2.5", "none", "none", "backfill", "2"],
        ["0.5", "none", "none", "change", "1"],
    ]
