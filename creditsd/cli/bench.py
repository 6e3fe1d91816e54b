"""`creditsd bench`: what a trigger costs on the server at hand."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from creditsd.bench.measure import PLAIN, Findings, grouped, measure
from creditsd.bench.schema import SCHEMA
from creditsd.cli.console import Json, console, errors_console, finish, invocation, say, say_json

EX_INTERRUPTED = 130


def bench(
    clients: Annotated[
        int, typer.Option(min=1, max=1000, metavar="NUMBER", help="Writers at a time, beside one alone.")
    ] = 16,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="Of writing, in all.")] = 30,
    json: Json = False,
) -> None:
    """Measure what no trigger, a trigger with NOTIFY, and creditsd's cost single-row updates on your server.

    Writes as fast as the server lets it, to a schema `creditsd_bench` of its own that it removes at the end, at Ctrl-C
    and after errors. Your tables and the schema `creditsd` are left alone. Needs the right to create a schema.
    """

    def announce() -> None:
        say(
            f"writes to a schema {SCHEMA} of its own, as fast as the server lets it, for about {seconds:g} s; "
            "others on the server will feel it. Ctrl-C ends it and removes the schema",
            note=True,
        )

    async def ask(bar: Progress) -> Findings:
        _end_like_ctrl_c()
        task = bar.add_task("measuring", total=None)
        return await measure(
            invocation.settings(),
            clients=clients,
            seconds=seconds,
            announce=announce,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )

    try:
        with Progress(console=errors_console, transient=True, disable=not errors_console.is_terminal) as bar:
            found = finish(ask(bar))
    except asyncio.CancelledError:
        raise typer.Exit(EX_INTERRUPTED) from None
    if json or not console.is_terminal:
        say_json(found.document())
    else:
        show(console, found)


def show(to: Console, found: Findings) -> None:
    """Print the variants side by side, and what follows."""
    table = Table(title=f"single-row UPDATE, PostgreSQL {found.version}", title_justify="left", title_style="bold")
    for name in ("clients", "trigger", "writes/s", "from-to", "kept", "p50", "p99"):
        table.add_column(name, justify="left" if name == "trigger" else "right")
    for clients in found.clients:
        for cell in (cell for cell in found.cells if cell.clients == clients):
            table.add_row(
                str(clients) if cell.variant == PLAIN else "",
                cell.variant,
                grouped(cell.rate),
                f"{grouped(min(cell.rates))}-{grouped(max(cell.rates))}",
                "" if cell.variant == PLAIN else f"{found.ratio(clients, cell.variant):.0%}",
                f"{cell.p50_ms:.2f} ms",
                f"{cell.p99_ms:.2f} ms",
            )
        table.add_section()
    to.print(table)
    for line in found.advice():
        to.print(f"• {line}", highlight=False, markup=False, soft_wrap=True)


def _end_like_ctrl_c() -> None:
    """Clean up too when asked to end, or when the terminal is closed."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
