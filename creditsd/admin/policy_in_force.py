"""The policy that the stored totals are made by, where a command has settings of its own."""

from __future__ import annotations

from creditsd.config import policy
from creditsd.config.settings import Settings
from creditsd.domain.errors import ConfigError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row

_OLDER = "events.tells_level"


async def check(connection: Connection, settings: Settings) -> None:
    """Make sure that these settings make the totals that are stored; where nothing has been stored yet, any do.

    Raises ConfigError, which names what differs.
    """
    noted = await row(connection, sql_files.sql("queries/policy_noted"))
    differing = [] if noted is None else policy.differing(noted[0], settings.policy)
    if not differing:
        return
    if all(each.startswith(_OLDER) for each in differing):
        raise ConfigError("what is stored was made by an older daemon: restart it first, and it recomputes everyone")
    said = ", ".join(each for each in differing if not each.startswith(_OLDER))
    raise ConfigError(
        f"what is stored was made with other settings ({said}): run this with the daemon's, or restart the daemon with "
        "these, and it recomputes everyone"
    )
