"""`creditsd verify`: is what is stored, and what sinks hold, true."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from creditsd.admin.verify import Drift, Verdict, Verifier
from creditsd.cli import render
from creditsd.cli.console import Json, console, errors_console, finish, invocation, say, say_json
from creditsd.cli.progress_bar import ProgressBar

SHOWN = 20  # on a terminal; a pipe gets them all

EX_DRIFT = 1


def verify(
    sink: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Compare what this sink holds too; may be repeated.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Have what drifted told again, with a new version.")] = False,
    json: Json = False,
) -> None:
    """Compare every stored total, and with --sink what sinks hold, with the truth.

    Users whose change is still on its way have not drifted. Exits 0 when nothing drifted, or when --repair mended all
    of it; 1 otherwise.
    """
    shown = 0
    lines = json or not console.is_terminal

    def report(drift: Drift) -> None:
        nonlocal shown
        shown += 1
        if lines:
            say_json({"drift": dataclasses.asdict(drift)})
        elif shown <= SHOWN:
            console.print(render.drift_line(drift))

    async def ask(bar: ProgressBar) -> Verdict:
        async with Verifier.opened(invocation.settings(), sink or []) as verifier:
            return await verifier.run(repair=repair, progress=bar.show, report=report)

    with ProgressBar(errors_console, "verify") as bar:
        verdict = finish(ask(bar))
    if lines:
        say_json({"verdict": {**dataclasses.asdict(verdict), "clean": verdict.clean}})
    else:
        render.verdict(console, verdict, unseen=max(0, shown - SHOWN))
    for name in verdict.silent:
        say(f"{name} cannot tell what it holds: it was not compared", note=True)
    if repair and not verdict.clean and not verdict.led:
        say("no daemon leads: what is stored was mended here, sinks are told when one starts", note=True)
    raise typer.Exit(0 if verdict.clean else EX_DRIFT)
