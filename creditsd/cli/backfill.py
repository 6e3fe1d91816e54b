"""`creditsd backfill`: recomputes everyone."""

from __future__ import annotations

from typing import Annotated

import typer

from creditsd.admin.inspect import Inspector
from creditsd.cli.console import errors_console, finish, invocation
from creditsd.cli.progress_bar import ProgressBar


def backfill(
    republish: Annotated[
        bool, typer.Option("--republish", help="Give everyone a new version, so that every sink takes it.")
    ] = False,
) -> None:
    """Recompute everyone. The daemon does it where one runs; otherwise it is done here, and published when one does.

    Only totals that differ from what is stored are published. After a restore of the database, or a failover that lost
    transactions, the sinks may hold what the database no longer knows: then say --republish.
    """

    async def ask(bar: ProgressBar) -> bool:
        async with Inspector.opened(invocation.settings(), purpose="backfill") as inspector:
            return await inspector.backfill(bar.show, republish=republish)

    with ProgressBar(errors_console) as bar:
        by_daemon = finish(ask(bar))
    errors_console.print("done by the daemon" if by_daemon else "done; no daemon runs, so nothing is published yet")
