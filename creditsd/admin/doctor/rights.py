"""What the roles of `dsn` and `listen_dsn` lack of the rights that the daemon needs."""

from __future__ import annotations

from collections.abc import Sequence

from creditsd.admin.doctor.finding import Finding, good, problem
from creditsd.config.command import of_installation
from creditsd.config.settings import Settings
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, connected, row

NAMED = 3


async def examine(connection: Connection, settings: Settings) -> Sequence[Finding]:
    """Look for what sql/grants.sql grants and these roles do not have; the leader comes by `listen_dsn`."""
    found = dict([await _lacking(connection)])
    if settings.listen_dsn:
        async with connected(settings.direct_dsn, purpose="doctor", schema=settings.schema, direct=True) as direct:
            found |= dict([await _lacking(direct)])
    return [_said(role, lacking, settings.schema) for role, lacking in found.items()]


async def _lacking(connection: Connection) -> tuple[str, Sequence[str]]:
    found = await row(connection, sql_files.sql("queries/rights_lacking"))
    assert found is not None
    return found[0], found[1] or []


def _said(role: str, lacking: Sequence[str], schema: str) -> Finding:
    if not lacking:
        return good("rights", f"{role} has all that the daemon needs")
    more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
    hint = of_installation(f"run `creditsd install --role {role}` as the table's owner", schema)
    return problem("rights", f"{role} lacks {', '.join(lacking[:NAMED])}{more}", hint)
