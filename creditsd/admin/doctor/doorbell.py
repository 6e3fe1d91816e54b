"""The doorbell's round trip: a notification of our own, on a channel that no daemon listens to."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Sequence

from creditsd.admin.doctor.finding import Finding, good, note, problem
from creditsd.config.settings import Settings
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, connected, row
from creditsd.postgres.listening import Channel

PATIENCE_SECONDS = 5.0


async def examine(connection: Connection, settings: Settings) -> Sequence[Finding]:
    """Ring the way that writers ring, and hear it the way that the daemon does."""
    if settings.wakeup == "poll":
        return [note("doorbell", f"off (wakeup = poll): the daemon looks every {settings.poll_seconds:g} s")]
    channel = f"{settings.schema}_doctor"
    async with connected(settings.direct_dsn, purpose="doctor", schema=settings.schema, direct=True) as listening:
        own = Channel(listening, channel)
        await own.listen()
        began = time.monotonic()
        token = secrets.token_hex(8)
        await row(connection, sql_files.sql("queries/doctor_rung"), {"channel": channel, "payload": token})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                async for heard in own.rings():
                    if heard == token.encode():
                        return [good("doorbell", f"a ring is heard after {(time.monotonic() - began) * 1000:.1f} ms")]
    hint = "let dsn and listen_dsn lead to the same database, and listen_dsn through no pooler"
    return [problem("doorbell", f"no ring is heard within {PATIENCE_SECONDS:g} s: the daemon would poll", hint)]
