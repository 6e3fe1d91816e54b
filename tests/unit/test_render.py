"""What a terminal shows: a user's steps, and whatever somebody else has written as an escape."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from rich.console import Console

from creditsd.admin.doctor.finding import Finding
from creditsd.admin.failed_deliveries import FailedDelivery
from creditsd.admin.inspect import ExplainedRow, Explanation, Problem, SetAside, Status
from creditsd.admin.sinks import ListedSink
from creditsd.admin.verify import Drift
from creditsd.cli import render
from creditsd.domain.delivery_attempt import DeliveryAttempt
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


def test_what_was_sent_within_a_day_is_shown_with_its_date() -> None:
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    console = Console(width=120, record=True)
    render.delivery_log(console, [DeliveryAttempt(at, "ada", 1, "msg_1", 204, 3, "arrived", "")])
    shown = console.export_text().splitlines()[1].split()
    assert shown[:2] == [f"{at.astimezone():%m-%d}", f"{at.astimezone():%H:%M:%S}.000"]


# A title of the window, a colour by either introducer, a mark of direction, a line of its own, and rich's own markup.
NASTY = "\x1b]0;pwned\x07\x9b31m\u202eevil\n[red]not markup[/red] :smile:"
WHEN = datetime(2026, 5, 1, tzinfo=UTC)
NASTY_TOTAL = Total.nothing(NASTY)._replace(
    version=1, updated_at=WHEN, membership_status="active", membership=NASTY, cause=NASTY
)
FAILED = FailedDelivery("hook", NASTY, 1, 2, None, 500, NASTY, WHEN, WHEN, [NASTY])

SCREENS: dict[str, Callable[[Console], None]] = {
    "history": lambda console: render.steps(console, [NASTY_TOTAL]),
    "explain": lambda console: render.explanation(
        console,
        NASTY,
        Explanation(
            NASTY_TOTAL,
            NASTY_TOTAL,
            [Problem(NASTY, NASTY, WHEN)],
            [ExplainedRow(Decimal(1), NASTY, NASTY, NASTY, NASTY, None, None, None, True, NASTY, False)],
            [(NASTY, NASTY)],
        ),
    ),
    "explain nobody": lambda console: render.explanation(console, NASTY, Explanation(None, None, [], [], [])),
    "watch": lambda console: console.print(render.total_line(NASTY_TOTAL)),
    "verify": lambda console: console.print(
        render.drift_line(Drift(NASTY, NASTY, "missing", 1, None, Decimal(1), Decimal(1)))
    ),
    "deliveries list": lambda console: render.failed_deliveries(console, [FAILED]),
    "deliveries show": lambda console: render.failed_delivery(console, FAILED),
    "deliveries log": lambda console: render.delivery_log(
        console, [DeliveryAttempt(WHEN, NASTY, 1, NASTY, 500, 3, NASTY, NASTY)]
    ),
    "doctor": lambda console: console.print(render.finding_line(Finding(NASTY, "problem", NASTY, NASTY))),
    "sinks list": lambda console: render.sinks(
        console, [ListedSink("hook", "webhook", "failing", NASTY, NASTY, last_error=NASTY, last_error_at=WHEN)]
    ),
    "status": lambda console: render.status(
        console,
        Status(
            9,
            1,
            NASTY,
            WHEN,
            [NASTY],
            "asleep",
            0,
            NASTY,
            0,
            WHEN,
            1,
            1,
            [ListedSink("hook", "webhook", "failing", NASTY, NASTY, last_error=NASTY, last_error_at=WHEN)],
            [SetAside(NASTY, 1, NASTY)],
            [{"problem": NASTY, "hint": NASTY}],
        ),
    ),
}


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("colours", [True, False])
def test_what_somebody_else_wrote_moves_no_terminal_and_is_no_markup(screen: str, colours: bool) -> None:
    written = io.StringIO()
    console = Console(file=written, width=400, force_terminal=colours, color_system="standard" if colours else None)
    SCREENS[screen](console)
    ours = Console(file=io.StringIO(), width=400, record=True)
    SCREENS[screen](ours)
    shown = ours.export_text()
    assert "\\x1b]0;pwned\\x07\\x9b31m\\u202eevil\\n[red]not markup[/red] :smile:" in shown
    assert all(line.isprintable() for line in shown.splitlines())
    assert [mark for mark in ("\x1b]", "\x07", "\x9b", "\u202e") if mark in written.getvalue()] == []
