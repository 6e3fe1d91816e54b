"""`creditsd get`: a user's total, computed now."""

from __future__ import annotations

import typer

from creditsd.admin.inspect import Inspector
from creditsd.cli.console import UserId, finish, invocation, say_json
from creditsd.config.redact import redact_dsn
from creditsd.domain.errors import CreditsdError
from creditsd.domain.total import Total


def get(user_id: UserId) -> None:
    """Print a user's total, computed now from the table, as JSON."""

    async def total() -> Total:
        async with Inspector.opened(invocation.settings(), purpose="get") as inspector:
            return await inspector.total(user_id)

    try:
        say_json({"success": True, "data": finish(total(), raising=True).document()})
    except CreditsdError as error:
        say_json({"success": False, "error": redact_dsn(str(error))})
        raise typer.Exit(error.exit_code) from None
