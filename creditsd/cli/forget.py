"""`creditsd forget`: erases a user."""

from __future__ import annotations

import dataclasses

import typer

from creditsd.admin.forget import Eraser, Forgotten
from creditsd.cli import render
from creditsd.cli.console import Json, UserId, console, finish, invocation, say, say_json

EX_UNAVAILABLE = 69


def forget(user_id: UserId, json: Json = False) -> None:
    """Erase a user from creditsd's tables and from every sink that can take back what it was told.

    Delete the user's own rows first: they are the application's, and their next change, or a sweep, would bring the
    total back.
    Says what could not be reached; exits 69 when a sink did not answer that could have forgotten.
    """

    async def ask() -> Forgotten:
        async with Eraser.opened(invocation.settings()) as eraser:
            return await eraser.forget(user_id)

    found = finish(ask())
    if json or not console.is_terminal:
        say_json(dataclasses.asdict(found))
    else:
        render.forgotten(console, found)
    if found.remaining:
        rows = "1 row" if found.remaining == 1 else f"{found.remaining} rows"
        still = f"the application's table still has {rows} of this user"
        say(f"{still}: the next change, or a sweep, brings the total back", note=True)
    raise typer.Exit(EX_UNAVAILABLE if found.unreachable else 0)
