"""`creditsd demo`: the whole line, with nothing else installed."""

from __future__ import annotations

from typing import Annotated

import typer

from creditsd.cli.console import console


def demo(
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, metavar="PORT", help="Answer HTTP here.", show_default="8321, or a free one"),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="End by itself after so long.", show_default="at Ctrl-C"),
    ] = None,
    kinds: Annotated[
        int,
        typer.Option(min=1, max=2, metavar="NUMBER", help="2: plans and packs apart, each by its own installation."),
    ] = 1,
) -> None:
    """Watch the whole thing work: a PostgreSQL of its own, simulated customers, and their totals as they change.

    Needs nothing but `pip install 'creditsd[demo]'`, touches no database of yours, and leaves nothing behind.
    """
    from creditsd.demo import show
    from creditsd.demo.kinds import kinds as counted

    show(console, port=port, duration_seconds=duration, kinds=counted(kinds))
