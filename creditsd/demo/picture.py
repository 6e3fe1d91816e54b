"""The demo's screen: who has how much, as it changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from creditsd.admin.inspect import DOORBELL
from creditsd.daemon.app import Daemon
from creditsd.demo.board import Arrival, Board
from creditsd.demo.people import YOU
from creditsd.domain.total import digits

FRAME_SECONDS = 0.1
STILL_SECONDS = 0.5  # a frame even when nothing has arrived: clocks and counters move
BRIGHT_SECONDS = 0.3
FADING_SECONDS = 1.5
BURST = 40  # a batch of more than these is counted; on the screen it changes only who is there already

_BARS = "▁▂▃▄▅▆▇█"
_STATUS_STYLE = {"active": "green", "expired": "yellow", "none": "dim"}
_CAUSE_STYLE = {"expiry": "yellow", "auto-expire": "magenta", "repair": "cyan"}
_FRAME_LINES = 14  # all that is not a row


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a visitor needs in another terminal."""

    dsn: str
    psql: str
    creditsd: str
    page: str

    @property
    def lines(self) -> list[str]:
        """The lines to paste; short enough for eighty columns."""
        return [
            f"export CREDITSD_DSN='{self.dsn}'",
            f'{self.psql} "$CREDITSD_DSN"',
            "UPDATE user_credits SET credits = credits - 5 WHERE id = 1;",
        ]

    @property
    def questions(self) -> list[str]:
        """What else can be asked there."""
        return [f"{self.creditsd} {command}" for command in ("watch", "status", f"explain {YOU}")]


class Picture:
    """Draws on a terminal: one line per user, each in its place for as long as it keeps changing."""

    def __init__(self, console: Console, title: str, invitation: Invitation) -> None:
        self._console = console
        self._title = title
        self._invitation = invitation
        self._places: dict[str, Arrival] = {}
        self._wakeup = asyncio.Event()

    def announce(self, arrivals: Sequence[Arrival]) -> None:
        """Take what has just arrived; the next frame shows it."""
        for arrival in arrivals:
            user_id = arrival.total.user_id
            if len(arrivals) <= BURST or user_id in self._places:
                self._place(arrival)
        self._wakeup.set()

    async def run(self, board: Board, daemon: Daemon) -> None:
        """Draw until cancelled."""
        with Live(self.render(board, daemon), console=self._console, auto_refresh=False, screen=True) as live:
            while True:
                live.update(self.render(board, daemon), refresh=True)
                await asyncio.sleep(FRAME_SECONDS)
                if not self._is_fading():
                    await self._wait(STILL_SECONDS)

    def render(self, board: Board, daemon: Daemon) -> RenderableType:
        """Compose one frame."""
        return Group(
            self._header(),
            Text.assemble((" Open ", "italic"), (self._invitation.page, "bright_cyan"), overflow="fold"),
            self._invitation_lines(),
            Text(),
            self._counters(board, daemon),
            Rule(style="bright_black"),
            self._table(),
            Rule(style="bright_black"),
            self._footer(board),
        )

    def _header(self) -> RenderableType:
        line = Table.grid(expand=True)
        line.add_column()
        line.add_column(justify="right")
        title = Text.assemble((" creditsd demo ", "bold reverse"), "  ", (self._title, "dim"))
        line.add_row(title, Text.assemble(("Ctrl-C", "bold"), " ends it "))
        return line

    def _invitation_lines(self) -> RenderableType:
        first, *others = self._invitation.lines
        intro = Text(" Change a row yourself, from another terminal, and watch the first line:", style="italic")
        lines = [Text(f"   {first}", style="bright_cyan", overflow="fold")]
        lines += [Text(f"   {other}", style="bright_cyan", overflow="fold") for other in others]
        return Group(intro, *lines)

    def _counters(self, board: Board, daemon: Daemon) -> RenderableType:
        p50, p99 = board.percentile(50), board.percentile(99)
        doorbell = str(daemon.health()["doorbell"] or daemon.state)
        facts = [
            (f"{board.rate():.1f}", " totals/s"),
            (f"{board.arrived:,}", " so far"),
            (f"{board.users:,}", " users"),
        ]
        if p50 is not None and p99 is not None:
            facts += [(f"{p50:.1f}", " ms p50"), (f"{p99:.1f}", " ms p99 after commit")]
        first, second = Text(), Text(" ")
        for figure, what in facts:
            first.append(f" {figure}", style="bold").append(f"{what}  ", style="dim")
        second.append("doorbell ", style="dim").append(DOORBELL.get(doorbell, doorbell), style="cyan")
        room = self._console.width - second.cell_len - 4
        second.append("   ").append(_bars(board.history()[:-1][-max(0, room) :]), style="green")
        for line in (first, second):
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(first, second)

    def _table(self) -> RenderableType:
        table = Table(box=None, expand=True, padding=(0, 1), header_style="dim", pad_edge=True)
        table.add_column("user", ratio=3, no_wrap=True)
        table.add_column("credits", justify="right", width=8, no_wrap=True)
        table.add_column("step", justify="right", width=7, no_wrap=True)
        table.add_column("status", width=8, no_wrap=True)
        table.add_column("plan", ratio=2, no_wrap=True)
        table.add_column("cause", width=12, no_wrap=True)
        table.add_column("after ms", justify="right", width=8, no_wrap=True)
        now = time.monotonic()
        for arrival in self._places.values():
            table.add_row(*_cells(arrival, now - arrival.at))
        for _ in range(self._rows() - len(self._places)):
            table.add_row()
        return table

    def _footer(self, board: Board) -> RenderableType:
        told = "  ".join(f"{count:,} {cause}" for cause, count in sorted(board.causes.items()))
        asked = " · ".join(self._invitation.questions)
        return Group(
            Text.assemble((" Also: ", "italic"), (asked, "cyan"), overflow="ellipsis", no_wrap=True),
            Text(f" {told or 'waiting for the first total'}", style="dim", overflow="ellipsis", no_wrap=True),
        )

    def _rows(self) -> int:
        return max(3, self._console.height - _FRAME_LINES)

    def _place(self, arrival: Arrival) -> None:
        """Put a user where they stood; a new one takes over the line that has been still for longest."""
        user_id = arrival.total.user_id
        while user_id not in self._places and len(self._places) >= self._rows():
            _, still = min((each.at, other) for other, each in self._places.items() if other != str(YOU))
            self._places = {(user_id if other == still else other): each for other, each in self._places.items()}
        self._places[user_id] = arrival
        if user_id == str(YOU):
            self._places = {user_id: arrival, **self._places}

    def _is_fading(self) -> bool:
        now = time.monotonic()
        return any(now - each.at < FADING_SECONDS for each in self._places.values())

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()
        except TimeoutError:
            pass
        self._wakeup.clear()


def _cells(arrival: Arrival, age: float) -> list[RenderableType]:
    total = arrival.total
    fresh, bright = age < FADING_SECONDS, age < BRIGHT_SECONDS
    tint = "green" if arrival.step > 0 else "red" if arrival.step < 0 else "yellow"
    flash = f"bold reverse {tint}" if bright else f"bold {tint}" if fresh else ""
    is_you = total.user_id == str(YOU)
    name = Text(f"{'▸' if is_you else ' '} {arrival.name}", style="bold" if is_you or fresh else "")
    if not arrival.age.ours and total.cause not in ("expiry", "backfill"):
        name.append("  ← you", style="bold bright_cyan")
    milliseconds = arrival.age.milliseconds
    return [
        name,
        Text(f" {digits(total.credits)} ", style=flash or "bold"),
        Text(_signed(arrival.step), style=tint if fresh else "dim"),
        Text(total.membership_status, style=_STATUS_STYLE[total.membership_status]),
        Text(total.membership or "-", style="" if total.membership else "dim"),
        Text(total.cause, style=_CAUSE_STYLE.get(total.cause, "dim")),
        Text("" if milliseconds is None else f"{milliseconds:.1f}", style="" if fresh else "dim"),
    ]


def _signed(step: Decimal) -> str:
    return f"+{digits(step)}" if step > 0 else "" if step == 0 else digits(step)


def _bars(counts: Sequence[int]) -> str:
    most = max([*counts, 1])
    return "".join(_BARS[min(len(_BARS) - 1, count * len(_BARS) // (most + 1))] for count in counts)
