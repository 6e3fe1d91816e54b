"""What our sessions are set to, for as long as they last or, behind a transaction pooler, for each transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, AsyncCursor, AsyncTransaction
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from creditsd.config.types import DEFAULT_SCHEMA

# Comes before anything else is looked up: whoever may create in a schema of the usual path could put a function there
# that fits our call better than PostgreSQL's own, and it would run as us.
_PATH = "search_path = pg_catalog, pg_temp"
SEARCH_PATH = f"SET {_PATH}"
LOCAL_SEARCH_PATH = f"SET LOCAL {_PATH}"

# Ours can all be derived again, so our commits need no flush of their own; nothing that an administrator set for the
# application, on the role or the database, or the application in a session that is ours next, may cut what is meant to
# wait, or make our transactions, or what we read, other than they are written for; and a process that vanished must not
# keep its locks for the two hours of a usual kernel, nor a frozen one those of a transaction.
_OF_TRANSACTIONS = {
    "statement_timeout": "0",  # before it is over
    "lock_timeout": "0",
    "role": "DEFAULT",
    "row_security": "on",
    "synchronous_commit": "off",
    "idle_in_transaction_session_timeout": "'30s'",
    "TimeZone": "'UTC'",
    "DateStyle": "'ISO'",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "client_min_messages": "notice",
    "jit": "off",
}
_OF_SESSIONS = {
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "20000",
    "default_transaction_isolation": "'read committed'",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
}


def _set(settings: Mapping[str, str], *, local: bool) -> bytes:
    """Return the statements that set them, for a session or, `local`, for a transaction."""
    word = "SET LOCAL" if local else "SET"
    statements = [f"{word} {_PATH};", *(f"{word} {name} TO {value};" for name, value in settings.items())]
    newer = f"SELECT set_config('transaction_timeout', '0', {local})"
    statements.append(f"{newer} WHERE current_setting('transaction_timeout', true) IS NOT NULL;")
    return "\n".join(statements).encode()


# Set by a statement: a pooler refuses start-up options. What concerns transactions is part of each BEGIN where the
# session is not ours to set.
SETTINGS = _set(_OF_TRANSACTIONS | _OF_SESSIONS, local=False)
LOCAL_SETTINGS = _set(_OF_TRANSACTIONS, local=True)


class Session(AsyncConnection[TupleRow]):
    """A connection set up for our work: for as long as it lasts, or, where it is `shared`, for each transaction.

    Through a transaction pooler, the session behind it may be the application's next: what is set is set for one
    transaction, in which a statement runs that does not run in one already.
    """

    schema = DEFAULT_SCHEMA
    """The installation that what it runs is about."""

    shared = False
    kept_pid: int | None = None
    """The process that has served it so far, where a pooler lies in between that gives each client a session."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> AsyncCursor[TupleRow]:
        """Run a statement with the settings that are ours."""
        if not (self.shared and query and self.info.transaction_status is TransactionStatus.IDLE):
            return await super().execute(query, params, **options)
        async with self.transaction():
            return await super().execute(query, params, **options)

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[AsyncTransaction]:
        """Open a transaction, or a savepoint in one, with the settings that are ours."""
        begins = self.info.transaction_status is TransactionStatus.IDLE
        async with super().transaction(savepoint_name, force_rollback) as opened:
            if self.shared and begins:
                await super().execute(LOCAL_SETTINGS)
            yield opened


def schema_of(connection: object) -> str:
    """Return the installation that what a connection runs is about."""
    return connection.schema if isinstance(connection, Session) else DEFAULT_SCHEMA


async def limit_lock_waits(connection: AsyncConnection[Any], seconds: float) -> None:
    """Wait for a lock for so long at most, a millisecond at least, until the end of this transaction."""
    milliseconds = max(int(seconds * 1000), 1)  # 0 would be for ever
    await connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{milliseconds}ms"])
