"""The doorbell's round trip: a notification of our own, on a channel that no daemon listens to."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

from psycopg import sql

from creditsd.admin.doctor.finding import Finding, good, note, problem
from creditsd.config.settings import Settings
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, connected, row, translated

PATIENCE_SECONDS = 5.0


async def examine(connection: Connection, settings: Settings) -> Sequence[Finding]:
    """Ring the way that writers ring, and hear it the way that the daemon does."""
    if settings.wakeup == "poll":
        return [note("doorbell", f"off (wakeup = poll): the daemon looks every {settings.poll_seconds:g} s")]
    channel = f"{settings.schema}_doctor"
    async with connected(settings.direct_dsn, purpose="doctor", schema=settings.schema, direct=True) as listening:
        with translated():
            await listening.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        began = time.monotonic()
        token = secrets.token_hex(8)
        await row(connection, sql_files.sql("queries/doctor_rung"), {"channel": channel, "payload": token})
        with translated():
            async for heard in listening.notifies(timeout=PATIENCE_SECONDS):
                if heard.payload == token:
                    return [good("doorbell", f"a ring is heard after {(time.monotonic() - began) * 1000:.1f} ms")]
    hint = "let dsn and listen_dsn lead to the same database, and listen_dsn through no pooler"
    return [problem("doorbell", f"no ring is heard within {PATIENCE_SECONDS:g} s: the daemon would poll", hint)]
