"""`creditsd install`: puts the schema and the triggers into the database."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from creditsd.cli.console import Yes, agreed, finish, invocation, say
from creditsd.schema import install as schema


def install(
    print_: Annotated[bool, typer.Option("--print", help="Print the SQL and change nothing.")] = False,
    role: Annotated[str, typer.Option(help="Grant a restricted role what the daemon needs.", metavar="NAME")] = "",
    reader: Annotated[
        str, typer.Option(help="Let a role (PostgREST's, Supabase's) read its users' own balances.", metavar="NAME")
    ] = "",
    yes: Yes = False,
) -> None:
    """Put the schema `creditsd` and the triggers into the database.

    Repeat it after an upgrade, after changing the table's settings, or after adding partitions: it does what is
    missing, in one transaction. The application never queues for a lock of ours: it is given up and tried again.
    Before it takes over another table than the installed one, it asks.
    """
    settings = invocation.settings()
    named = {"role": role, "reader": reader}
    settings = settings.model_copy(update={key: name for key, name in named.items() if name})
    if print_:
        sys.stdout.write(finish(schema.script(settings)))
        return
    tell(
        agreed(lambda yes: schema.install(settings, agreed=yes), yes),
        otherwise="nothing to do: everything is installed",
    )


def tell(outcome: schema.Installed, *, otherwise: str) -> None:
    """Say what was done, and what works but not as well as it could."""
    for line in outcome.done or [otherwise]:
        say(line)
    for line in outcome.notes:
        say(line, note=True)
