"""What the role of `dsn` lacks of the rights that the daemon needs."""

from __future__ import annotations

from collections.abc import Sequence

from creditsd.admin.doctor.finding import Finding, good, problem
from creditsd.config.settings import Settings
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, rows

NAMED = 3


async def examine(connection: Connection, _: Settings) -> Sequence[Finding]:
    """Look for what sql/grants.sql grants and this role does not have."""
    lacking = [str(name) for (name,) in await rows(connection, sql_files.sql("queries/rights_lacking"))]
    role = connection.info.user
    if not lacking:
        return [good("rights", f"{role} has all that the daemon needs")]
    more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
    hint = f"run `creditsd install --role {role}` as the table's owner"
    return [problem("rights", f"{role} lacks {', '.join(lacking[:NAMED])}{more}", hint)]
