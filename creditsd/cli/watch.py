"""`creditsd watch`: totals as they change."""

from __future__ import annotations

from typing import Annotated

import typer

from creditsd.admin.inspect import Inspector
from creditsd.cli import render
from creditsd.cli.console import Json, console, finish, invocation, say_json
from creditsd.domain.total import Total


def watch(
    user_ids: Annotated[
        list[str] | None, typer.Argument(metavar="USER_ID", help="Whose; nobody named: everyone's.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Show totals as they change: everyone's, or those of certain users, which are shown at once too."""

    async def show() -> None:
        seen: dict[str, Total] = {}
        async with Inspector.opened(invocation.settings(), purpose="watch") as inspector:
            async for total in inspector.watch(user_ids or []):
                if json or not console.is_terminal:
                    say_json(total.document())
                else:
                    console.print(render.total_line(total, before=seen.get(total.user_id)))
                if len(seen) < 10_000 or total.user_id in seen:
                    seen[total.user_id] = total

    finish(show())
