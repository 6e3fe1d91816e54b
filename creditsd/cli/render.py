"""What people see in a terminal: tables and lines, from what others found out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from creditsd.admin.doctor import Finding
from creditsd.admin.failed_deliveries import FailedDelivery
from creditsd.admin.forget import Forgotten
from creditsd.admin.inspect import DOORBELL, Explanation, Status
from creditsd.admin.installations import ListedInstallation
from creditsd.admin.sink_condition import COUNTED
from creditsd.admin.sinks import ListedSink
from creditsd.admin.verify import Drift, Verdict
from creditsd.config.printable import escaped
from creditsd.domain.delivery_attempt import DeliveryAttempt
from creditsd.domain.total import Total, digits

_NUMBERS = ("queue", "delivered", "refused", "dead")
_STATE_STYLE = {
    "current": "green",
    "behind": "yellow",
    "incomplete": "yellow",
    "new": "dim",
    "paused": "yellow",
    "not configured": "yellow",
    "disabled": "red",
    "failing": "red",
}
_FINDING_MARKS = {"good": ("✓", "green"), "note": ("!", "yellow"), "problem": ("✗", "red")}
_STATUS_STYLE = {"active": "green", "expired": "yellow", "none": "dim"}


def total_line(total: Total, *, before: Total | None = None) -> Text:
    """Write a total as one line, with the step from the one before where that is known."""
    line = Text()
    line.append(f"{_clock(total.updated_at)}  ", style="dim")
    line.append(f"{escaped(total.user_id)}  ", style="cyan")
    line.append(f"{digits(total.credits):>10}", style="bold")
    step = "" if before is None else _signed(total.credits - before.credits)
    line.append(f" {step:<8}", style="dim")
    line.append(f"{total.membership_status:<8}", style=_STATUS_STYLE[total.membership_status])
    line.append(escaped(f"{total.plan_type:<13}{total.cause}"), style="dim")
    return line


def explanation(console: Console, user_id: str, found: Explanation) -> None:
    """Show a user's rows with their reasons, the total, and what each sink has."""
    rows = _Table(title=_text(f"rows of {user_id}"), title_justify="left", title_style="bold")
    for name in ("", "credits", "status", "plan", "membership", "because"):
        rows.add_column(name, justify="right" if name == "credits" else "left", overflow="fold")
    for each in found.rows:
        mark = _text("✓", style="green") if each.counts else _text("·", style="dim")
        amount = "null" if each.credits is None else digits(each.credits)
        rows.add_row(mark, amount, each.status or "", each.plan_type or "", each.membership or "", each.why)
    if found.rows:
        console.print(rows)
    else:
        console.print(_text(f"{user_id} has no rows that could be shown."))
    facts = _Table.grid(padding=(0, 2))
    for problem in found.problems:
        facts.add_row(problem.problem, _text(problem.reason, style="red"))
    if found.total is not None:
        facts.add_row("total now", _text(found.total.message, style="bold"))
        facts.add_row("can buy", "yes" if found.total.can_buy else "no")
    if found.stored is None:
        facts.add_row("stored", _text("nothing yet", style="yellow"))
    else:
        same = found.total is not None and found.stored.credits == found.total.credits
        told = "the same" if same else f"{digits(found.stored.credits)} credits: news is on its way"
        facts.add_row("stored", f"{told}, version {found.stored.version} ({found.stored.cause})")
    for hint in found.hints:
        facts.add_row("note", _text(hint, style="yellow"))
    for name, holds in found.sinks:
        facts.add_row(f"sink {name}", _text(holds))
    console.print(facts)


def steps(console: Console, found: Sequence[Total]) -> None:
    """Show steps of one user, the newest first."""
    if not found:
        return
    table = _columns("time", "credits", "step", "status", "plan", "cause", "version", right=("credits", "step"))
    for each in found:
        before = Decimal("NaN") if each.previous is None else Decimal(each.previous["credits"])
        step = _signed(each.credits - before)
        status_ = _text(each.membership_status, style=_STATUS_STYLE[each.membership_status])
        time_ = _text(f"{each.updated_at.astimezone():%Y-%m-%d %H:%M:%S}", "dim")
        plan = each.membership or each.plan_type
        table.add_row(time_, digits(each.credits), step, status_, plan, each.cause, _text(str(each.version), "dim"))
    console.print(table)


def status(console: Console, found: Status, strangers: Sequence[str] = ()) -> None:
    """Show the line at a glance, and who holds a lock of ours without being one of us."""
    console.print(_text(found.sentence(strangers), style="bold"))
    facts = _Table.grid(padding=(0, 2))
    if found.leader_pid is None:
        facts.add_row("leader", _text("none: start `creditsd run`", style="red"))
    else:
        since = "" if found.leader_since is None else f", connected {_ago(found.leader_since)}"
        facts.add_row(
            "leader", _text(f"server process {found.leader_pid}, {found.leader_address or 'local'}{since}", "green")
        )
    if found.standbys:
        facts.add_row("standby", ", ".join(found.standbys))
    facts.add_row("doorbell", DOORBELL[found.doorbell])
    facts.add_row("unread", f"{_counted(found.unread)} changes since the cursor was saved {_ago(found.saved_at)}")
    if found.resyncing is not None:
        facts.add_row("resync", _text(f"{found.resyncing}: {found.resynced_users} users done", style="yellow"))
    for stranger in strangers:
        facts.add_row("stranger", _text(f"{stranger}, and is none of ours: end it", style="red"))
    facts.add_row("users", f"about {max(found.users, 0)}")
    facts.add_row("schema", f"migration {found.migration}")
    for problem in found.problems:
        facts.add_row("problem", _text(f"{problem['problem']}: {problem['hint']}".removesuffix(": "), style="red"))
    for aside in found.set_aside:
        told = f"{_counted(aside.users)}, e.g. {aside.one}: see `creditsd explain {aside.one}`"
        facts.add_row(aside.problem, _text(told, style="red"))
    console.print(facts)
    sinks(console, found.sinks)


def installations(console: Console, found: Sequence[ListedInstallation]) -> None:
    """Show the installations of a database, one a line."""
    if not found:
        console.print("creditsd is not installed in this database", style="yellow")
        return
    table = _columns("schema", "table", "version", "leader", "unread", "lag", right=("version", "unread", "lag"))
    for each in found:
        if each.problem:
            table.add_row(each.schema, _text(each.problem, style="red"))
            continue
        leader = _text("none", "red") if each.leader_pid is None else _text(f"process {each.leader_pid}", "green")
        lag = "" if each.leader_pid is None else f"{each.lag_seconds or 0:.1f} s"
        table.add_row(each.schema, each.table, str(each.migration), leader, _counted(each.unread or 0), lag)
    console.print(table)


def failed_deliveries(console: Console, found: Sequence[FailedDelivery]) -> None:
    """Show refused deliveries, one a line."""
    if not found:
        console.print("nothing is refused", style="green")
        return
    table = _columns("sink", "user", "tries", "next", "status", "said", right=("tries", "status"))
    for each in found:
        status = "" if each.last_status is None else str(each.last_status)
        table.add_row(
            each.sink,
            _text(each.user_id, "cyan"),
            str(each.attempt),
            _next(each.next_at),
            status,
            _text(each.last_error),
        )
    console.print(table)


def failed_delivery(console: Console, found: FailedDelivery) -> None:
    """Show one refused delivery in full."""
    facts = _Table.grid(padding=(0, 2))
    facts.add_row("sink", _text(found.sink))
    facts.add_row("user", _text(found.user_id, "cyan"))
    facts.add_row("version", str(found.version))
    facts.add_row("refused", f"{_ago(found.refused_at)}, tried {found.attempt} times, last {_ago(found.tried_at)}")
    facts.add_row("next try", _next(found.next_at))
    facts.add_row("status", "none" if found.last_status is None else str(found.last_status))
    facts.add_row("said", _text(found.last_error))
    if found.accepted:
        facts.add_row("arrived", _text(", ".join(found.accepted)))
    console.print(facts)


def delivery_log(console: Console, found: Sequence[DeliveryAttempt]) -> None:
    """Show what was sent to a sink, one request a line."""
    if not found:
        console.print("nothing was sent within a day, or it is not written down", style="yellow")
        return
    table = _columns("time", "user", "status", "ms", "result", "webhook-id", "answer", right=("status", "ms"))
    for each in found:
        style = "green" if each.result == "arrived" else "red"
        table.add_row(
            f"{each.at.astimezone():%m-%d} {_clock(each.at)}",
            _text(f"{each.users} users" if each.user_id is None else each.user_id, "cyan"),
            "" if each.status is None else str(each.status),
            str(each.milliseconds),
            _text(each.result, style),
            each.webhook_id,
            _text(each.answer),
        )
    console.print(table)


def sinks(console: Console, found: Sequence[ListedSink]) -> None:
    """Show every sink: what it is, how it is, and why."""
    if not found:
        console.print("no sink is configured: set CREDITSD_SINKS, or [[sinks]] in the settings' file", style="yellow")
        return
    table = _columns("sink", "scheme", "state", "queue", "delivered", "refused", "dead", "because", right=_NUMBERS)
    for each in found:
        numbers = (_counted(each.queue), str(each.delivered), str(each.refused), str(each.dead))
        table.add_row(
            each.name, each.scheme or "", _text(each.state, _STATE_STYLE[each.state]), *numbers, _text(_because(each))
        )
    console.print(table)


def drift_line(drift: Drift) -> Text:
    """Write one drift as a line."""
    line = Text(no_wrap=True)
    line.append("mended  " if drift.mended else "drift   ", style="green" if drift.mended else "red")
    line.append(f"{escaped(drift.user_id)}  ", style="cyan")
    line.append(f"{escaped(drift.place)}: ", style="bold")
    match drift.kind:
        case "missing":
            line.append("it is missing")
        case "wrong":
            stored = "null" if drift.stored_credits is None else digits(drift.stored_credits)
            same = stored == digits(drift.true_credits)
            line.append(
                f"{stored} credits, but another plan" if same else f"{stored}, not {digits(drift.true_credits)}"
            )
        case "older" | "newer":
            line.append(f"version {drift.held_version} is {drift.kind} than {drift.stored_version}")
    return line


def verdict(console: Console, found: Verdict, *, unseen: int) -> None:
    """Show what a verification found, after its drifts; `unseen` of those were too many to show."""
    if unseen:
        console.print(f"and {unseen} more: pipe the output to see them all", style="dim")
    places = " and ".join(["what is stored", *(f"what {name} holds" for name in found.compared)])
    if not found.drifted:
        console.print(_text(f"{found.users} users: {places} is true", style="green"))
    elif found.clean:
        console.print(_text(f"{found.users} users: {_totals(found.drifted)} had drifted, all mended", style="green"))
    else:
        rest = f", {found.mended} mended" if found.mended else ""
        console.print(_text(f"{found.users} users: {_totals(found.drifted)} drifted{rest}", style="red"))
    if found.set_aside:
        told = f"{found.set_aside} users could not be compared: their rows cannot be summed up; see `creditsd status`"
        console.print(_text(told, style="red"))
    if found.waiting:
        why = (
            "news is on its way to them, or their sink stands still"
            if found.led
            else "no daemon leads: start `creditsd run`"
        )
        console.print(_text(f"{found.waiting} users wait and were not judged: {why}", style="yellow"))


def forgotten(console: Console, found: Forgotten) -> None:
    """Show what became of a user in each place."""
    facts = _Table.grid(padding=(0, 2))
    gone = f"erased {_totals(found.balances)}, {found.history} steps of history, {found.changes} marks of changes, "
    gone += f"{found.deliveries} refused deliveries"
    facts.add_row("our tables", _text(gone, style="green"))
    for each in found.sinks:
        style = {"erased": "green", "held nothing": "green", "unreachable": "red"}.get(each.outcome, "yellow")
        facts.add_row(f"sink {each.sink}", _text(each.said, style=style))
    console.print(facts)


def finding_line(found: Finding) -> Text:
    """Write what was found of one thing as a line: what it is, and what mends it."""
    mark, style = _FINDING_MARKS[found.level]
    line = Text()
    line.append(f"{mark} ", style=style)
    line.append(f"{escaped(found.about):<13} ", style="bold")
    line.append(escaped(found.said), style="" if found.level == "good" else style)
    if found.hint:
        line.append(escaped(f": {found.hint}"))
    return line


def findings_counted(console: Console, found: Sequence[Finding]) -> None:
    """Say how much there is to mend."""
    problems = sum(each.level == "problem" for each in found)
    if problems:
        console.print(f"{problems} to mend", style="bold red", highlight=False)
    else:
        console.print("nothing to mend", style="bold green", highlight=False)


class _Table(Table):
    """A table of what others wrote: its cells are shown letter by letter, what a terminal would obey as escapes."""

    def add_row(self, *cells: RenderableType | None, **given: Any) -> None:
        """Add a row; a cell may be text of one style."""
        super().add_row(*map(_cell, cells), **given)


def _cell(cell: RenderableType | None) -> Text:
    text = cell if isinstance(cell, Text) else _text(str(cell))
    return Text(escaped(text.plain), style=text.style)


def _text(words: str, style: str = "") -> Text:
    """Make text of what others wrote; before rich does, which would drop a bell or a backspace without a word."""
    return Text(escaped(words), style=style)


def _columns(*names: str, right: Sequence[str]) -> _Table:
    table = _Table(box=None, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def _next(moment: datetime | None) -> Text:
    if moment is None:
        return _text("dead", style="red")
    seconds = (moment - datetime.now(UTC)).total_seconds()
    return _text("now" if seconds <= 0 else f"in {_span(seconds)}", style="yellow")


def _because(sink: ListedSink) -> str:
    """Say how it is, since when, and what to do."""
    when = ""
    if sink.state == "paused":
        when = f"; since {_ago(sink.paused_at)}"
    elif sink.state == "failing":
        when = f"; said {_ago(sink.last_error_at)}"
    return f"{sink.said}{when}" + (f": {sink.hint}" if sink.hint else "")


def _signed(step: Decimal) -> str:
    if not step.is_finite():
        return ""
    return f"+{digits(step)}" if step > 0 else digits(step)


def _totals(number: int) -> str:
    return "1 total" if number == 1 else f"{number} totals"


def _counted(number: int) -> str:
    return f"{COUNTED} or more" if number >= COUNTED else str(number)


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}.{moment.microsecond // 1000:03d}"


def _ago(moment: datetime | None) -> str:
    if moment is None:
        return "never"
    return f"{_span(max(0, (datetime.now(UTC) - moment).total_seconds()))} ago"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
