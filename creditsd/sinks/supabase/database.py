"""Broadcasts by `realtime.send` in the project's database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from creditsd.config.printable import one_line
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.postgres import sql_files
from creditsd.postgres.session import LOCAL_SEARCH_PATH
from creditsd.sinks import Rejection
from creditsd.sinks.supabase.messages import EVENT, Refusal, by_halves
from creditsd.sinks.supabase.options import Options

MAX_BATCH = 500

# What a refusal means for the person who runs it: words in the server's error or in the warning, and the mend.
_MENDS = (
    (("password authentication failed", "no password supplied"), "it refuses the user or password: mend the url"),
    (("read-only",), "it is a read-only replica: point the url at the primary"),
    (
        ("no partition of relation",),
        "Realtime keeps no messages there today: it makes room when a client connects, and then this goes on",
    ),
    (
        ("permission denied", "row-level security"),
        "its role may not send: log in as postgres, or grant it what docs/supabase.md lists",
    ),
    (
        ('schema "realtime" does not exist', "function realtime.send", 'relation "realtime.messages"'),
        "it has no realtime.send: is this the database of a Supabase project, with Realtime enabled?",
    ),
)


class _Connection(AsyncConnection[TupleRow]):
    """A connection that closes when a query is cancelled: a server that hangs would not read a cancel request."""

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ARG002, ASYNC109  the driver's signature
        self.pgconn.finish()


class ByDatabase:
    """Calls realtime.send in the project's database; Realtime reads what it stores from the write-ahead log."""

    max_batch = MAX_BATCH

    def __init__(self, name: str, dsn: str, options: Options) -> None:
        parts = conninfo_to_dict(dsn)
        self._dsn = dsn
        self._options = options
        self._application = f"creditsd sink {name}"
        self._label = f"sink {name}: {parts.get('host')}:{parts.get('port', 5432)}"
        self._secrets = [str(parts["password"])] if parts.get("password") else []
        self._connection: _Connection | None = None
        self._warnings: list[str] = []

    async def open(self) -> None:
        """Connect, and prove by a message that is taken back that messages can be stored."""
        await self._connected()

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Send each total, all in one transaction; where some cannot be stored, find out which.

        The function tells of a failure by a warning alone, and not of whose it was.
        """
        if not totals:
            return []
        await self._connected()
        refusal = await self._send(totals)
        if refusal is not None:
            await self._prove()
        return await by_halves(self._send, totals, refusal)

    async def held(self, user_id: str) -> int | None:  # noqa: ARG002  the protocol's signature
        """Return None: a broadcast is not kept."""
        return None

    async def close(self) -> None:
        """Close the connection; waits for nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self) -> None:
        if self._connection is not None and not self._connection.closed:
            return
        async with self._told(self._options.connect_timeout_seconds):
            self._connection = await _Connection.connect(
                self._dsn, autocommit=True, application_name=self._application, prepare_threshold=None
            )
        self._connection.add_notice_handler(self._heed)
        await self._prove()

    async def _send(self, totals: Sequence[Total]) -> Refusal | None:
        topics = [self._options.topic + total.user_id for total in totals]
        try:
            said = await self._call(topics, [total.json().decode() for total in totals])
        except (psycopg.DataError, errors.ProgramLimitExceeded) as error:
            return Refusal(self._said(str(error)))
        return Refusal(self._said(said)) if said else None

    async def _prove(self) -> None:
        """Send a message and roll it back. Raises SinkUnavailable where that fails: then it is not the messages."""
        said = await self._call([self._options.topic], ["{}"], keep=False)
        if said:
            await self.close()
            raise SinkUnavailable(f"{self._label}: {self._said(said)}")

    async def _call(self, topics: Sequence[str], payloads: Sequence[str], *, keep: bool = True) -> str:
        """Run one transaction; return the first warning, after which nothing of it is kept, or nothing."""
        connection = self._connection
        assert connection is not None
        self._warnings.clear()
        async with self._told(self._options.timeout_seconds), connection.transaction(force_rollback=not keep):
            values = {"topics": list(topics), "payloads": list(payloads), "event": EVENT}
            await connection.execute(LOCAL_SEARCH_PATH)
            await connection.execute(sql_files.sql("queries/broadcast"), values)
            if self._warnings:
                raise psycopg.Rollback
        return self._warnings[0] if self._warnings else ""

    @contextlib.asynccontextmanager
    async def _told(self, seconds: float) -> AsyncIterator[None]:
        """Raise the server's failures as SinkUnavailable, and a time-out after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except (psycopg.DataError, errors.ProgramLimitExceeded):
            raise
        except (psycopg.Error, OSError) as error:  # TimeoutError is one
            task = asyncio.current_task()
            await self.close()
            if task is not None and task.cancelling():  # some drivers raise the loss of the connection in its place
                raise asyncio.CancelledError from None
            raise SinkUnavailable(f"{self._label}: {self._why(error)}") from None
        except asyncio.CancelledError:
            await self.close()
            raise

    def _heed(self, notice: errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING" and "SendingBroadcastMessage" in (notice.message_primary or ""):
            self._warnings.append(notice.message_primary or "")

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError | errors.ConnectionTimeout):
            return "no answer in time: is it up, and is the address right?"
        primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
        return self._said(primary or str(error))

    def _said(self, text: str) -> str:
        mend = next((mend for marks, mend in _MENDS if any(mark in text for mark in marks)), None)
        return mend or one_line(text, self._secrets)
