"""Whoever rings, heard beside the daemon; and times under which nothing looks by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from creditsd.capture import doorbell
from creditsd.daemon import pipeline
from creditsd.daemon.timings import Timings
from tests.beside import beside
from tests.conftest import Database, eventually
from tests.integration.line import ADVISORY
from tests.integration.play import Session

FOR_EVER = 1000.0

NO_FALLBACK = Timings(
    doorbell=doorbell.Timings(asking_poll_seconds=FOR_EVER, heartbeat_seconds=FOR_EVER),
    pipeline=pipeline.Timings(cursor_save_seconds=FOR_EVER),
)


@asynccontextmanager
async def hearing(database: Database) -> AsyncIterator[list[str]]:
    """Collect every ring, whoever it is from; our own proofs are not counted."""
    rings: list[str] = []
    async with database.connect() as listener:
        await listener.execute("LISTEN creditsd")

        async def listen() -> None:
            nonlocal rings
            async for heard in listener.notifies():
                rings += [heard.payload] if not heard.payload.startswith("proof") else []

        async with beside(listen()):
            yield rings


async def heard(database: Database, rings: list[str]) -> int:
    """Count the rings so far: notifications arrive in the order of commits, so a last one of ours comes after them."""
    database.run("SELECT pg_notify('creditsd', 'last')")

    async def last() -> bool:
        return rings[-1:] == ["last"]

    await eventually(last)
    rings.pop()
    return len(rings)


async def asked(session: Session) -> bool:
    """Whether somebody's request for K waits at the server: from then on every new writer rings."""
    waiting = await session.execute(f"SELECT {ADVISORY} AND NOT granted".encode())
    return bool(await waiting.fetchall())
