"""What people see in a terminal: tables, bars and lines, from what others found out."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from creditsd.inspection import COUNTED, Explanation, Status
from creditsd.model import Total, digits

DOORBELL = {
    "asleep": "asleep: writers ring",
    "asking": "going to sleep: waiting for a silent writer's transaction",
    "awake": "awake: polling, writers keep silent",
    "nobody": "nobody listens",
}

_STATUS_STYLE = {"active": "green", "expired": "yellow", "none": "dim"}


def total_line(total: Total, *, before: Total | None = None) -> Text:
    """Write a total as one line, with the step from the one before where that is known."""
    line = Text()
    line.append(f"{_clock(total.updated_at)}  ", style="dim")
    line.append(f"{total.user_id}  ", style="cyan")
    line.append(f"{digits(total.credits):>10}", style="bold")
    step = "" if before is None else f"{digits(total.credits - before.credits)}"
    line.append(f" {'+' if step and not step.startswith('-') and step != '0' else ''}{step:<7}", style="dim")
    line.append(f"{total.membership_status:<8}", style=_STATUS_STYLE[total.membership_status])
    line.append(f"{total.plan_type:<13}{total.cause}", style="dim")
    return line


def explanation(console: Console, found: Explanation) -> None:
    """Show a user's rows with their reasons, the total, and what each sink has."""
    rows = Table(title=f"rows of {found.total.user_id}", title_justify="left", title_style="bold")
    for name in ("", "credits", "status", "plan", "membership", "because"):
        rows.add_column(name, justify="right" if name == "credits" else "left", overflow="fold")
    for each in found.rows:
        mark = Text("✓", style="green") if each.counts else Text("·", style="dim")
        amount = "null" if each.credits is None else digits(each.credits)
        rows.add_row(mark, amount, each.status, each.plan_type, each.membership, each.why)
    if found.rows:
        console.print(rows)
    else:
        console.print(f"{found.total.user_id} has no rows.")
    facts = Table.grid(padding=(0, 2))
    facts.add_row("total now", Text(found.total.message, style="bold"))
    facts.add_row("can buy", "yes" if found.total.can_buy else "no")
    if found.stored is None:
        facts.add_row("stored", Text("nothing yet", style="yellow"))
    else:
        same = found.stored.credits == found.total.credits
        told = "the same" if same else f"{digits(found.stored.credits)} credits: news is on its way"
        facts.add_row("stored", f"{told}, version {found.stored.version} ({found.stored.cause})")
    for name, holds in found.sinks:
        facts.add_row(f"sink {name}", Text(holds))
    console.print(facts)


def status(console: Console, found: Status) -> None:
    """Show the line at a glance."""
    facts = Table.grid(padding=(0, 2))
    if found.leader_pid is None:
        facts.add_row("leader", Text("none: start `creditsd run`", style="red"))
    else:
        since = "" if found.leader_since is None else f", connected {_ago(found.leader_since)}"
        facts.add_row(
            "leader", Text(f"server process {found.leader_pid}, {found.leader_address or 'local'}{since}", "green")
        )
    facts.add_row("doorbell", DOORBELL[found.doorbell])
    facts.add_row("unread", f"{_counted(found.unread)} changes since the cursor was saved {_ago(found.saved_at)}")
    if found.resyncing is not None:
        facts.add_row("resync", Text(f"{found.resyncing}: {found.resynced_users} users done", style="yellow"))
    facts.add_row("users", f"about {max(found.users, 0)}")
    facts.add_row("schema", f"migration {found.migration}")
    console.print(facts)
    sinks = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("sink", "queue", "delivered", "state"):
        sinks.add_column(name, justify="right" if name in ("queue", "delivered") else "left")
    for each in found.sinks:
        state = (
            Text(f"{each.last_error} ({_ago(each.last_error_at)})", "red") if each.last_error else Text("well", "green")
        )
        sinks.add_row(each.name, _counted(each.queue), str(each.delivered), state)
    if found.sinks:
        console.print(sinks)
    else:
        console.print("no sink has been told anything yet", style="dim")


class BackfillBar:
    """How far a backfill is; appears when there is something to show and stays when it is over."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def show(self, done: int, users: int, over: bool) -> None:
        """Show that so many of about so many users are done."""
        if self._progress is None:
            self._progress, self._began = self._begin(), time.monotonic()
        rate = f"{done / max(time.monotonic() - self._began, 0.001):,.0f}/s"
        total = done if over else max(users, done)
        self._progress.update(self._progress.task_ids[0], completed=done, total=total, rate=rate)
        if over:
            self._end()

    def _begin(self) -> Progress:
        columns = (
            TextColumn("backfill"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("users"),
            TextColumn("{task.fields[rate]}", style="dim"),
            TimeElapsedColumn(),
        )
        progress = Progress(*columns, console=self._console)
        progress.add_task("backfill", total=None, rate="")
        progress.start()
        return progress

    def _end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = None


def _counted(number: int) -> str:
    return f"{COUNTED} or more" if number >= COUNTED else str(number)


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}.{moment.microsecond // 1000:03d}"


def _ago(moment: datetime | None) -> str:
    if moment is None:
        return "never"
    seconds = max(0, (datetime.now(UTC) - moment).total_seconds())
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
