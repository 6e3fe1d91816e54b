"""What the demo's screen shows of one kind of credits: how much arrives, and one line per user."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from decimal import Decimal

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from creditsd.admin.inspect import DOORBELL
from creditsd.daemon.app import Daemon
from creditsd.demo.board import Arrival, Board
from creditsd.demo.people import YOU
from creditsd.domain.total import digits

BRIGHT_SECONDS = 0.3
FADING_SECONDS = 1.5
BURST = 40  # a batch of more than these is counted; on the screen it changes only who is there already

_BARS = "▁▂▃▄▅▆▇█"
_STATUS_STYLE = {"active": "green", "expired": "yellow", "none": "dim"}
_CAUSE_STYLE = {"expiry": "yellow", "auto-expire": "magenta", "repair": "cyan"}
_FRAME_LINES = 14  # all that is not a row


class Panel:
    """Keeps each user in their place for as long as they keep changing. `beside` so many share the screen's width."""

    def __init__(self, console: Console, wakeup: asyncio.Event, *, name: str, beside: int) -> None:
        self.name = name
        self._console = console
        self._wakeup = wakeup
        self._beside = beside
        self._board: Board | None = None
        self._daemon: Daemon | None = None
        self._places: dict[str, Arrival] = {}

    @property
    def _width(self) -> int:
        return self._console.width // self._beside

    @property
    def _narrow(self) -> bool:
        return self._beside > 1 and self._width < 80

    def show(self, board: Board, daemon: Daemon) -> None:
        """Take what the counters are read from."""
        self._board, self._daemon = board, daemon

    def whole(self) -> RenderableType:
        """Compose the kind's name, where there are several, its counters and its lines."""
        name = [Text(f" {self.name} ", style="bold reverse cyan")] if self.name else []
        return Group(*name, self._counters(), Rule(style="bright_black"), self._table())

    def told(self) -> str:
        """Say how many totals came of what, and of which kind."""
        assert self._board is not None
        causes = "  ".join(f"{count:,} {cause}" for cause, count in sorted(self._board.causes.items()))
        return f"{self.name}: {causes}" if self.name and causes else causes

    def announce(self, arrivals: Sequence[Arrival]) -> None:
        """Take what has just arrived; the next frame shows it."""
        for arrival in arrivals:
            user_id = arrival.total.user_id
            if len(arrivals) <= BURST or user_id in self._places:
                self._place(arrival)
        self._wakeup.set()

    def _counters(self) -> RenderableType:
        board, daemon = self._board, self._daemon
        assert board is not None
        assert daemon is not None
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
        room = self._width - second.cell_len - 4
        second.append("   ").append(_bars(board.history()[:-1][-max(0, room) :]), style="green")
        for line in (first, second):
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(first, second)

    def _table(self) -> RenderableType:
        table = Table(box=None, expand=True, padding=(0, 1), header_style="dim", pad_edge=True)
        table.add_column("user", ratio=3, no_wrap=True)
        table.add_column("credits", justify="right", width=8, no_wrap=True)
        table.add_column("step", justify="right", width=7, no_wrap=True)
        if not self._narrow:
            table.add_column("status", width=8, no_wrap=True)
            table.add_column("plan", ratio=2, no_wrap=True)
            table.add_column("cause", width=12, no_wrap=True)
            table.add_column("after ms", justify="right", width=8, no_wrap=True)
        now = time.monotonic()
        for arrival in self._places.values():
            table.add_row(*_cells(arrival, now - arrival.at)[: len(table.columns)])
        for _ in range(self._rows() - len(self._places)):
            table.add_row()
        return table

    @property
    def is_fading(self) -> bool:
        """Whether a line is bright yet, and must be drawn again to become dim."""
        now = time.monotonic()
        return any(now - each.at < FADING_SECONDS for each in self._places.values())

    def _rows(self) -> int:
        return max(3, self._console.height - _FRAME_LINES - (2 if self._beside > 1 else 0))

    def _place(self, arrival: Arrival) -> None:
        """Put a user where they stood; a new one takes over the line that has been still for longest."""
        user_id = arrival.total.user_id
        while user_id not in self._places and len(self._places) >= self._rows():
            _, still = min((each.at, other) for other, each in self._places.items() if other != str(YOU))
            self._places = {(user_id if other == still else other): each for other, each in self._places.items()}
        self._places[user_id] = arrival
        if user_id == str(YOU):
            self._places = {user_id: arrival, **self._places}


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
