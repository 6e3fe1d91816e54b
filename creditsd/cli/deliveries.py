"""`creditsd deliveries`: what sinks refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import typer

from creditsd.admin.delivery_log import delivery_log
from creditsd.admin.failed_deliveries import FailedDeliveries, FailedDelivery
from creditsd.cli import render
from creditsd.cli.console import Json, UserId, console, finish, invocation, say, say_json
from creditsd.domain.errors import InputError

app = typer.Typer(
    name="deliveries",
    help="See and settle what sinks refused: list, show, retry, drop; and what they were sent: log.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

SinkName = Annotated[str, typer.Argument(metavar="SINK", help="The sink's name in the settings.", show_default=False)]
SomeUserId = Annotated[
    str | None, typer.Argument(metavar="USER_ID", help="Whose; instead of --all.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="Everything this sink has refused.")]


@app.command("list")
def list_(
    sink: Annotated[str | None, typer.Option(metavar="NAME", help="Of this sink alone.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Only those that are not tried again by themselves.")] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="At most so many.")] = 1000,
    json: Json = False,
) -> None:
    """List refused deliveries: those that are tried next first, the dead last."""

    async def ask() -> Sequence[FailedDelivery]:
        async with FailedDeliveries.opened(invocation.settings()) as failed:
            return await failed.list(sink, dead=dead, limit=limit)

    found = finish(ask())
    if not json and console.is_terminal:
        render.failed_deliveries(console, found)
    else:
        for each in found:
            say_json(dataclasses.asdict(each))
    if len(found) == limit:
        say(f"there may be more than {limit}: raise --limit", note=True)


@app.command()
def show(sink: SinkName, user_id: UserId, json: Json = False) -> None:
    """Show one refused delivery with the whole of what the sink said."""

    async def ask() -> FailedDelivery:
        async with FailedDeliveries.opened(invocation.settings()) as failed:
            return await failed.show(sink, user_id)

    found = finish(ask())
    if not json and console.is_terminal:
        render.failed_delivery(console, found)
    else:
        say_json(dataclasses.asdict(found))


@app.command()
def retry(sink: SinkName, user_id: SomeUserId = None, all_: All = False) -> None:
    """Try refused deliveries again now, and begin their schedule anew; dead ones too.

    What is sent is each user's newest total. A daemon does it, at once where one runs.
    """
    _one_or_all(user_id, all_)

    async def ask() -> int:
        async with FailedDeliveries.opened(invocation.settings()) as failed:
            return await failed.retry(sink, user_id)

    say(f"{_counted(finish(ask()))} to {sink} will be tried now")


@app.command()
def drop(sink: SinkName, user_id: SomeUserId = None, all_: All = False) -> None:
    """Give refused deliveries up. The next change of such a user is told to the sink as ever."""
    _one_or_all(user_id, all_)

    async def ask() -> int:
        async with FailedDeliveries.opened(invocation.settings()) as failed:
            return await failed.drop(sink, user_id)

    say(f"dropped {_counted(finish(ask()))} to {sink}")


@app.command()
def log(
    sink: SinkName,
    limit: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="At most so many.")] = 100,
    json: Json = False,
) -> None:
    """List what a webhook was sent within a day, and what it answered: the newest first."""
    found = finish(delivery_log(invocation.settings(), sink, limit))
    if not json and console.is_terminal:
        render.delivery_log(console, found)
    else:
        for each in found:
            said = each._asdict()
            del said["named"]
            say_json(said)


def _one_or_all(user_id: str | None, everything: bool) -> None:
    if (user_id is None) is not everything:
        raise InputError("say whose: either a USER_ID, or --all")


def _counted(number: int) -> str:
    return "1 delivery" if number == 1 else f"{number} deliveries"
