"""`creditsd explain`: why a user has what they have."""

from __future__ import annotations

from typing import Any

from creditsd.admin.inspect import Inspector
from creditsd.cli import render
from creditsd.cli.console import Json, UserId, console, finish, invocation, say_json


def explain(user_id: UserId, json: Json = False) -> None:
    """Say of each of a user's rows whether it counts, and why; the total; and what each sink has."""

    async def ask() -> Any:
        async with Inspector.opened(invocation.settings(), purpose="explain") as inspector:
            return await inspector.explain(user_id)

    found = finish(ask())
    if not json and console.is_terminal:
        render.explanation(console, user_id, found)
        return
    say_json(found.document())
