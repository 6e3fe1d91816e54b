"""What stands in the tables of changes and balances."""

from __future__ import annotations

from typing import Any

from tests.integration.line import Line
from tests.integration.play import Session


async def stored(line: Line) -> dict[str, Any]:
    """What everyone who has anything has, by the balances."""
    return {name: amount for name, amount in (await line.stored()).items() if amount != 0}


async def waiting(session: Session) -> int:
    """How many changes stand in the table, read or not."""
    rows = await (await session.execute("SELECT count(*) FROM creditsd.changes")).fetchall()
    return int(rows[0][0])
