"""The demo's screen: who has how much, as it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from creditsd.demo.panel import Panel
from creditsd.demo.people import YOU

FRAME_SECONDS = 0.1
STILL_SECONDS = 0.5  # a frame even when nothing has arrived: clocks and counters move


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a visitor needs in another terminal."""

    dsn: str
    psql: str
    creditsd: str
    pages: Sequence[str]

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
        status = "status --all" if len(self.pages) > 1 else "status"
        return [f"{self.creditsd} {command}" for command in ("watch", status, f"explain {YOU}")]


class Picture:
    """Draws on a terminal: what is asked of a visitor, and below it the kinds of credits beside each other."""

    def __init__(self, console: Console, title: str, invitation: Invitation, kinds: Sequence[str]) -> None:
        self._console = console
        self._title = title
        self._invitation = invitation
        self._wakeup = asyncio.Event()
        self.panels = [Panel(console, self._wakeup, name=name, beside=len(kinds)) for name in kinds]
        """One a kind, in their order."""

    async def run(self) -> None:
        """Draw until cancelled."""
        with Live(self.render(), console=self._console, auto_refresh=False, screen=True) as live:
            while True:
                live.update(self.render(), refresh=True)
                await asyncio.sleep(FRAME_SECONDS)
                if not any(each.is_fading for each in self.panels):
                    await self._wait(STILL_SECONDS)

    def render(self) -> RenderableType:
        """Compose one frame."""
        return Group(
            self._header(),
            *(
                Text.assemble((" Open ", "italic"), (page, "bright_cyan"), overflow="fold")
                for page in self._invitation.pages
            ),
            self._invitation_lines(),
            Text(),
            self._kinds(),
            Rule(style="bright_black"),
            self._footer(),
        )

    def _kinds(self) -> RenderableType:
        if len(self.panels) == 1:
            return self.panels[0].whole()
        grid = Table.grid(expand=True, padding=(0, 1))
        for _ in self.panels:
            grid.add_column(ratio=1)
        grid.add_row(*(each.whole() for each in self.panels))
        return grid

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

    def _footer(self) -> RenderableType:
        told = "   ".join(filter(None, (each.told() for each in self.panels)))
        asked = " · ".join(self._invitation.questions)
        return Group(
            Text.assemble((" Also: ", "italic"), (asked, "cyan"), overflow="ellipsis", no_wrap=True),
            Text(f" {told or 'waiting for the first total'}", style="dim", overflow="ellipsis", no_wrap=True),
        )

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()
        except TimeoutError:
            pass
        self._wakeup.clear()
