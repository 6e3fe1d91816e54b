"""A daemon that says what must be mended of its table, until somebody has."""

from __future__ import annotations

import re
from typing import Any

from creditsd.daemon.app import Daemon
from tests.conftest import eventually
from tests.integration.running import until

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"
SPEND = "UPDATE user_credits SET credits = credits - 1"
ASKED = "asked for everyone to be recomputed"


async def until_unready(daemon: Daemon, says: str) -> None:
    """Wait until the daemon is not ready, leads all the same, and says what must be mended, and how."""
    found = await until_told(daemon, says)
    assert found["state"] in ("leading", "backfilling")


async def until_told(daemon: Daemon, says: str) -> dict[str, Any]:
    """Wait until the daemon is not ready, and says why."""

    async def health() -> dict[str, Any]:
        return daemon.health()

    def told(found: dict[str, Any]) -> bool:
        return not found["ready"] and re.search(says, found["problem"] or "") is not None

    return await eventually(health, told)


async def fingerprint(daemon: Daemon, other_than: str = "") -> str:
    """Wait until the daemon has looked at its table and found another one than before."""

    async def seen() -> str:
        return daemon._pipeline.watch._seen

    return await eventually(seen, lambda found: found not in ("", other_than))


async def until_mended(daemon: Daemon) -> None:
    async def divergences() -> list[str]:
        return [str(each) for each in daemon._pipeline.watch.divergences]

    await eventually(divergences, lambda found: found == [])  # which a look knows a moment before it is told
    await until(daemon, "problem", None)
    await until(daemon, "ready", True)
