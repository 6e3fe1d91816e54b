"""What a terminal shows of a user's steps."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from rich.console import Console

from creditsd.cli import render
from creditsd.domain.total import Total
from tests.records import record


def test_steps_are_shown_with_what_each_changed_where_that_can_be_said() -> None:
    first = Total.nothing("ada")._replace(
        version=1, credits=Decimal("0.5"), updated_at=datetime(2026, 5, 1, tzinfo=UTC)
    )
    more = first._replace(version=2, credits=Decimal(3), previous_record=record("0.5"), cause="backfill")
    less = first._replace(version=3, credits=Decimal(-2), previous_record=record("3"), membership="Pro")
    unknown = first._replace(version=4, credits=Decimal("NaN"), previous_record=record("-2"))
    after = first._replace(version=5, credits=Decimal(7), previous_record=record("NaN"))
    console = Console(width=120, record=True)
    render.steps(console, [after, unknown, less, more, first])
    shown = [line.split() for line in console.export_text().splitlines()]
    assert shown[0] == ["time", "credits", "step", "status", "plan", "cause", "version"]
    assert [line[2:] for line in shown[1:]] == [
        ["7", "none", "none", "change", "5"],
        ["NaN", "none", "none", "change", "4"],
        ["-2", "-5", "none", "Pro", "change", "3"],
        ["3", "+2.5", "none", "none", "backfill", "2"],
        ["0.5", "none", "none", "change", "1"],
    ]
