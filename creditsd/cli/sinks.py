"""`creditsd sinks`: which there are, a test message, pause and resume, everything again, gone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import typer

from creditsd.admin.sinks import ListedSink, SinkControl, Trial
from creditsd.cli import render
from creditsd.cli.console import Json, Yes, agreed, console, finish, invocation, say, say_json
from creditsd.domain.errors import InputError

app = typer.Typer(
    name="sinks",
    help="See, test, pause, resume, replay and remove the places totals go to.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

SinkName = Annotated[str, typer.Argument(metavar="NAME", help="The sink's name in the settings.", show_default=False)]


@app.command("list")
def list_(json: Json = False) -> None:
    """List the configured sinks, and those only the database still knows, with how each is."""

    async def ask() -> Sequence[ListedSink]:
        async with SinkControl.opened(invocation.settings()) as control:
            return await control.list()

    found = finish(ask())
    if not json and console.is_terminal:
        render.sinks(console, found)
        return
    for each in found:
        say_json(dataclasses.asdict(each))


@app.command("test")
def send_test(name: SinkName, json: Json = False) -> None:
    """Send one test message to a sink, now and from here, and say what came of it.

    It is a total of nobody's with cause `test` and version 0, which no consumer takes for news; where the sink can, it
    is erased again. It passes the daemon by: a paused sink is tested too.
    """

    async def ask() -> Trial:
        async with SinkControl.opened(invocation.settings()) as control:
            return await control.test(name)

    found = finish(ask())
    if json or not console.is_terminal:
        say_json({"sink": name, **dataclasses.asdict(found)})
    else:
        milliseconds = f"{found.seconds * 1000:.0f} ms"
        console.print(f"{name} took the test message in {milliseconds}; {found.left}", highlight=False)


@app.command()
def pause(name: SinkName) -> None:
    """Deliver nothing to a sink until `resume`. What changes meanwhile waits, the newest total of each user only."""

    async def ask() -> None:
        async with SinkControl.opened(invocation.settings()) as control:
            await control.pause(name)

    finish(ask())
    say(f"{name} is paused; go on with: creditsd sinks resume {name}")


@app.command()
def resume(name: SinkName) -> None:
    """Deliver to a sink again; each user whose total changed meanwhile is told once."""
    _open(name)
    say(f"{name} is delivered to again")


@app.command()
def enable(name: SinkName) -> None:
    """Deliver to a sink again that was disabled, e.g. because it answered 410; the same as `resume`."""
    _open(name)
    say(f"{name} is enabled, and delivered to again")


@app.command()
def replay(
    name: SinkName,
    user_id: Annotated[
        str | None, typer.Argument(metavar="[USER_ID]", help="Whose newest total; nobody named: everyone's.")
    ] = None,
) -> None:
    """Tell one sink everything again, e.g. because it has lost what it was told; no other sink is told anything.

    What it holds at the same or a higher version stays. After a restore of the database the sinks may be ahead: then
    `creditsd backfill --republish` gives everyone a new version.
    """

    async def ask() -> tuple[bool, bool]:
        async with SinkControl.opened(invocation.settings()) as control:
            return await control.replay(name, user_id), await control.served(name)

    found, served = finish(ask())
    if not found:
        raise InputError(f"nothing is stored of the user {user_id}, so there is nothing to tell {name}")
    what = "everything" if user_id is None else f"the newest total of {user_id}"
    if served:
        say(f"{name} is told {what} again")
    else:
        say(f"{name} is told {what} again once a daemon has it in its settings: these have not, and none that leads")


@app.command()
def remove(name: SinkName, yes: Yes = False) -> None:
    """Forget a sink that is no longer in the settings: how far it was told, and what it refused.

    Where no daemon leads that could say whether it still delivers there, it asks first.
    """

    async def ask(yes: bool) -> int:
        async with SinkControl.opened(invocation.settings()) as control:
            return await control.remove(name, agreed=yes)

    refused = agreed(ask, yes)
    letters = "1 refused delivery" if refused == 1 else f"{refused} refused deliveries"
    say(f"{name} is forgotten" + (f", with {letters}" if refused else ""))


def _open(name: str) -> None:
    async def ask() -> None:
        async with SinkControl.opened(invocation.settings()) as control:
            await control.resume(name)

    finish(ask())
