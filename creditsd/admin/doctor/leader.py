"""Whether a daemon leads, and who is in its way."""

from __future__ import annotations

from collections.abc import Sequence

from creditsd.admin.doctor.finding import Finding, good, note, problem
from creditsd.admin.leader_lock import led
from creditsd.capture.lock_holders import strangers_for_sure
from creditsd.config.settings import Settings
from creditsd.postgres.connections import Connection


async def examine(connection: Connection, _: Settings) -> Sequence[Finding]:
    """Look who holds our locks."""
    strangers = sorted(str(each) for each in await strangers_for_sure(connection))
    found = [problem("leader", f"{each}, and is none of ours", "end it") for each in strangers]
    if await led(connection):
        return [*found, good("leader", "a daemon leads")]
    return [*found, note("leader", "nobody leads: totals stand still", "start `creditsd run`")]
