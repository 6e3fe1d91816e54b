"""`creditsd history`: the steps that led to a user's total."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from creditsd.admin.inspect import Inspector
from creditsd.cli import render
from creditsd.cli.console import Json, UserId, console, finish, invocation, say, say_json
from creditsd.domain.total import Total


def history(
    user_id: UserId,
    limit: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="At most so many.")] = 100,
    json: Json = False,
) -> None:
    """Show each step of a user's total that is kept, the newest first, with its cause and what was before.

    Steps are kept for `[history] days`, which is 0 unless you set it.
    """
    settings = invocation.settings()

    async def ask() -> Sequence[Total]:
        async with Inspector.opened(settings, purpose="history") as inspector:
            return await inspector.history(user_id, limit)

    found = finish(ask())
    if not json and console.is_terminal:
        render.steps(console, found)
    else:
        for each in found:
            say_json(each.document() | {"previous": each.previous, "cause": each.cause})
    if not settings.history.days:
        kept = "; these are left from when it was on" if found else ""
        say(f"history is off{kept}: to keep each step, set [history] days and restart the daemon", note=True)
    elif not found:
        say(f"no step of {user_id} is kept: none was made in the last {settings.history.days} days", note=True)
    elif len(found) == limit:
        say(f"there may be more than {limit}: raise --limit", note=True)
