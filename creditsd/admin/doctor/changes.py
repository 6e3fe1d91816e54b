"""The changes that nobody has read: where nobody leads, each write adds to them."""

from __future__ import annotations

from collections.abc import Sequence

from creditsd.admin.doctor.finding import Finding, good, note
from creditsd.admin.inspect import LOCK_SECONDS
from creditsd.admin.leader_lock import led
from creditsd.admin.sink_condition import COUNTED
from creditsd.config.command import of_installation
from creditsd.config.settings import Settings
from creditsd.domain.errors import LockNotFree
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row
from creditsd.postgres.session import limit_lock_waits


async def examine(connection: Connection, settings: Settings) -> Sequence[Finding]:
    """Say how many wait, and what they take. Nothing where somebody has locked the table, who is named elsewhere."""
    try:
        async with connection.transaction():
            await limit_lock_waits(connection, LOCK_SECONDS)
            found = await row(connection, sql_files.sql("queries/changes_kept"), {"limit": COUNTED})
    except LockNotFree:
        return []
    assert found is not None
    unread, size = found
    counted = f"{COUNTED} changes or more" if unread == COUNTED else f"{unread} changes"
    said = f"{counted} wait to be read; {settings.schema}.changes takes {size}"
    if unread == 0 or await led(connection):
        return [good("changes", said)]
    never = of_installation("`creditsd uninstall`", settings.schema)
    return [note("changes", f"{said}, more with each write", f"start `creditsd run`; where it is not to run: {never}")]
