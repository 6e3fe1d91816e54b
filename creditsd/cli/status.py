"""`creditsd status`: the line at a glance."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from creditsd.admin.inspect import Inspector
from creditsd.admin.installations import listed
from creditsd.cli import render
from creditsd.cli.console import Json, console, finish, invocation, say_json
from creditsd.schema.installation import Stops

All = Annotated[
    bool, typer.Option("--all", help="List the installations of the database: schema, table, version, leader, lag.")
]


def status(json: Json = False, everything: All = False) -> None:
    """Show who leads, what waits, what the doorbell does, and how each sink is."""
    if everything:
        _all(json)
        return

    async def ask() -> Any:
        async with Inspector.opened(invocation.settings(), purpose="status", tolerated=Stops.TOTALS) as inspector:
            return await inspector.status(), await inspector.strangers()

    found, strangers = finish(ask())
    if json or not console.is_terminal:
        say_json({"sentence": found.sentence(strangers), **dataclasses.asdict(found), "strangers": strangers})
    else:
        render.status(console, found, strangers)


def _all(json: bool) -> None:
    found = finish(listed(invocation.settings()))
    if json or not console.is_terminal:
        say_json([dataclasses.asdict(each) for each in found])
    else:
        render.installations(console, found)
