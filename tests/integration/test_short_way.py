"""The short way of a drain: when it is taken, and what it leaves alone."""

from __future__ import annotations

import asyncio

from tests.conftest import PATIENCE_SECONDS
from tests.integration.line import TURN, USER, Line
from tests.integration.play import ADD, Session


async def test_an_idle_leader_waits_for_nobody_who_has_the_turn(line: Line, application: Session) -> None:
    await application.execute(ADD, [USER, 10])
    await line.settle()
    await application.execute("BEGIN")
    await application.execute(f"SELECT pg_advisory_xact_lock({TURN})".encode())
    async with asyncio.timeout(PATIENCE_SECONDS):
        drained = await line.change_reader.drain(2000)
    assert (drained.totals, drained.page["changes"]) == ([], 0)
    await application.rollback()
