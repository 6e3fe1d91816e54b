"""`creditsd healthcheck`: whether the daemon here is well, as an exit code."""

from __future__ import annotations

from typing import Annotated

import typer

from creditsd.admin.probe import Answer, probe
from creditsd.cli.console import finish, invocation, say
from creditsd.config.settings import Settings
from creditsd.domain.errors import DaemonUnavailable


def healthcheck(
    live: Annotated[
        bool, typer.Option("--live", help="Ask whether it is alive, as /livez does: also while PostgreSQL is away.")
    ] = False,
) -> None:
    """Exit with 0 where /readyz of the daemon on this machine would say 200, and with 69 where not.

    Where HTTP is off, the database is asked instead: whether a daemon leads, on whichever machine, and sees every
    change. With --live nobody is asked then, and it exits with 0.
    """
    settings = invocation.settings()
    address = settings.http.address
    if address is None:
        off = Answer(True, "HTTP is off (http.listen is empty), so nobody can say whether it is alive")
        answer = off if live else finish(_led(settings))
    else:
        found = probe(address, "/livez" if live else "/readyz")
        answer = found or Answer(False, f"no daemon of this machine answers at {settings.http.listen}")
    if not answer.well:
        raise DaemonUnavailable(answer.said)
    say(answer.said)


async def _led(settings: Settings) -> Answer:
    from creditsd.admin.inspect import Inspector
    from creditsd.schema.installation import Stops

    async with Inspector.opened(settings, purpose="healthcheck", tolerated=Stops.TOTALS) as inspector:
        status = await inspector.status(counted=1)
    well = status.leader_pid is not None and not status.problems
    return Answer(well, "a daemon leads" if well else status.sentence())
