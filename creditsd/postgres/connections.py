"""Connections to PostgreSQL, and the one place that translates what the driver raises."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection, AsyncCursor, IsolationLevel, errors
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from creditsd.config.redact import redact_dsn
from creditsd.domain.errors import ConfigError, DatabaseUnavailable, InputError, RowsError, SchemaError
from creditsd.domain.total import Total

log = structlog.get_logger()

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

# Comes before anything else is looked up: whoever may create in a schema of the usual path could put a function there
# that fits our call better than PostgreSQL's own, and it would run as us.
SEARCH_PATH = "SET search_path = pg_catalog, pg_temp"
LOCAL_SEARCH_PATH = "SET LOCAL search_path = pg_catalog, pg_temp"


class SharedConnection(AsyncConnection[TupleRow]):
    """A connection through a transaction pooler: the session behind it may be the application's next.

    So what is set is set for one transaction, in which a statement runs that does not run in one already.
    """

    async def execute(self, query: Any, params: Any = None, **options: Any) -> AsyncCursor[TupleRow]:
        """Run a statement with our own search_path."""
        if self.info.transaction_status is not TransactionStatus.IDLE:
            return await super().execute(query, params, **options)
        async with self.transaction():
            await super().execute(LOCAL_SEARCH_PATH)
            return await super().execute(query, params, **options)


CONNECT_SECONDS = 10

# Whoever is gone without a word is noticed within 20 s on both ends (the server's is part of SESSION): whether it is to
# speak, which keepalives find out, or has yet to acknowledge something, which keeps keepalives from being sent.
_PARAMETERS: Mapping[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
    "client_encoding": "utf8",  # whatever the database's; a pooler passes it on
}
POOL_SECONDS = 30.0

# Ours can all be derived again, so our commits need no flush of their own; nothing that an administrator set for the
# application, on the role or the database, may cut what is meant to wait, or make our transactions other than they are
# written for; and a process that vanished must not keep its locks for the two hours of a usual kernel, nor a frozen one
# those of a transaction. Set by a statement: a pooler refuses start-up options.
SESSION = f"""
{SEARCH_PATH};
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET synchronous_commit = off;
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = '30s';
SET idle_session_timeout = 0;
SET tcp_keepalives_idle = 10;
SET tcp_keepalives_interval = 5;
SET tcp_keepalives_count = 2;
SET tcp_user_timeout = 20000;
SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;
SET default_transaction_deferrable = off;
SET standard_conforming_strings = on;
SET client_min_messages = notice;
SET jit = off;
SELECT set_config('transaction_timeout', '0', false) WHERE current_setting('transaction_timeout', true) IS NOT NULL;
"""

# What the server says when the settings are wrong; the driver gives no code for a connection that never was.
_WRONG_SETTINGS = (
    "password authentication failed",
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "could not translate host name",
    "definition of service",
    "is not permitted to log in",
    "permission denied for database",
    "invalid port number",
    "Servname not supported",
    "invalid sslmode",
)

_NOT_INSTALLED = (
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.UndefinedFunction,
    errors.UndefinedObject,
    errors.InvalidSchemaName,
    errors.DatatypeMismatch,
    errors.WrongObjectType,
)

# The next try may find the lock free, the server up, the replica promoted, an install finished.
_TRY_AGAIN = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    errors.FeatureNotSupported,
    errors.ReadOnlySqlTransaction,
    errors.SerializationFailure,
    errors.ObjectNotInPrerequisiteState,
)


_PROGRAM_LIMITS = (errors.ProgramLimitExceeded, errors.StatementTooComplex)

# What the application's rows hold may raise these: sums beyond numeric, casts, functions of the application's own.
_OF_THE_ROWS = (psycopg.DataError, psycopg.IntegrityError, errors.RaiseException, *_PROGRAM_LIMITS)

# A number of credits inside JSON keeps its digits.
_loads = partial(json.loads, parse_float=Decimal)


@dataclass(frozen=True, slots=True)
class Batch:
    """Totals in ascending order of version, and what the database said of the page they came in."""

    totals: list[Total]
    page: dict[str, Any]


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the driver raises as ours; what is neither the server's state nor its schema passes as a bug."""
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnavailable(
            "PostgreSQL gave no connection in time: is it up, and max_connections enough?"
        ) from error
    except errors.InsufficientPrivilege as error:
        raise SchemaError(
            f"{_line(error)}: this role lacks a right; run `creditsd install --role NAME` as the table's owner"
        ) from error
    except _NOT_INSTALLED as error:
        raise SchemaError(f"{_line(error)}: run `creditsd install`") from error
    except _PROGRAM_LIMITS:
        raise  # of what a row holds: another try ends the same
    except _TRY_AGAIN as error:
        raise DatabaseUnavailable(_line(error)) from error


async def connect(dsn: str, *, purpose: str, shared: bool = False) -> Connection:
    """Open one autocommit connection, set up for our work; `shared` through a transaction pooler.

    Raises ConfigError where the server answers but refuses who or what we ask for, DatabaseUnavailable where it does
    not answer.
    """
    try:
        kind = SharedConnection if shared else AsyncConnection[TupleRow]
        connection = await kind.connect(
            dsn,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            application_name=f"creditsd {purpose}",
            prepare_threshold=None if shared else 5,
            **_PARAMETERS,
        )
    except psycopg.OperationalError as error:
        raise _not_connected(error, dsn) from error
    with translated():
        await (_configure_shared(connection) if shared else _configure(connection))
    return connection


@asynccontextmanager
async def connected(dsn: str, *, purpose: str, shared: bool = False) -> AsyncIterator[Connection]:
    """Open a connection for as long as the block lasts."""
    connection = await connect(dsn, purpose=purpose, shared=shared)
    try:
        yield connection
    finally:
        await connection.close()


def pool(
    dsn: str,
    *,
    purpose: str,
    max_size: int,
    shared: bool = False,
    patience_seconds: float = POOL_SECONDS,
) -> Pool:
    """Make a pool, not yet open, of at most max_size connections that are opened when first needed.

    They are `shared` where the way there leads through a transaction pooler. Who waits for one does so for
    `patience_seconds` at most.
    """
    return AsyncConnectionPool(
        dsn,
        connection_class=SharedConnection if shared else AsyncConnection[TupleRow],
        kwargs={
            "autocommit": True,
            "connect_timeout": CONNECT_SECONDS,
            "application_name": f"creditsd {purpose}",
            "prepare_threshold": None,  # old transaction poolers cannot
            **_PARAMETERS,
        },
        configure=_configure_shared if shared else _configure,
        check=AsyncConnectionPool.check_connection,
        min_size=0,
        max_size=max_size,
        timeout=patience_seconds,
        max_idle=600,
        open=False,
    )


@asynccontextmanager
async def borrowed(connections: Pool) -> AsyncIterator[Connection]:
    """Take a connection from the pool for as long as the block lasts. Raises DatabaseUnavailable."""
    with translated():
        async with connections.connection() as connection:
            yield connection


@asynccontextmanager
async def transaction(connections: Pool) -> AsyncIterator[Connection]:
    """Take a connection from the pool for one transaction, the length of the block. Raises DatabaseUnavailable."""
    async with borrowed(connections) as connection, connection.transaction():
        if isinstance(connection, SharedConnection):
            await connection.execute(LOCAL_SEARCH_PATH)
        yield connection


async def rows(connection: Connection, query: str, parameters: Any = None) -> list[TupleRow]:
    """Run one statement of `sql/` and return its rows, in the binary format."""
    with translated():
        cursor = await connection.execute(query, parameters, binary=True)
        return await cursor.fetchall() if cursor.description else []


async def row(connection: Connection, query: str, parameters: Any = None) -> TupleRow | None:
    """Run one statement of `sql/` and return its first row, or None."""
    found = await rows(connection, query, parameters)
    return found[0] if found else None


async def recomputed(connection: Connection, query: str, parameters: Any) -> Batch:
    """Run a statement that recomputes users, as `batch` does; users whose rows raise an error are set aside.

    They stop nobody else: the statement is run again, and the database then tries each of them apart.
    """
    try:
        return await batch(connection, query, parameters)
    except _OF_THE_ROWS as error:
        log.warning("balances.tried_apart", reason=_line(error))
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL creditsd.careful = on")
            return await batch(connection, query, parameters)
    except _OF_THE_ROWS as error:  # of no single user's: the ids themselves are not of the type they were
        raise SchemaError(f"{_line(error)}: run `creditsd install`") from error


async def batch(connection: Connection, query: str, parameters: Any) -> Batch:
    """Run a statement whose rows are (page, total …), where a row with a page has no total."""
    totals: list[Total] = []
    page: dict[str, Any] = {}
    for found in await rows(connection, query, parameters):
        if found[0] is None:
            totals.append(Total(*found[1:]))
        else:
            page = found[0]
    return Batch(totals, page)


@contextmanager
def summed(user_id: str) -> Iterator[None]:
    """Raise RowsError where what a user's rows hold raises an error."""
    try:
        yield
    except _OF_THE_ROWS as error:
        raise RowsError(f"the rows of {user_id!r} cannot be summed up: {_line(error)}") from error


@contextmanager
def read_as(user_id_type: str, user_id: str) -> Iterator[None]:
    """Raise InputError where the server cannot read what a person gave as a user's id."""
    try:
        yield
    except (
        errors.InvalidTextRepresentation,
        errors.NumericValueOutOfRange,
        errors.CharacterNotInRepertoire,
        errors.UntranslatableCharacter,
        UnicodeEncodeError,
    ) as error:
        raise InputError(f"{user_id!r} is not a user's id here: the table's are {user_id_type}") from error


async def _configure(connection: Connection) -> None:
    _configure_client(connection)
    await connection.execute(SESSION)


async def _configure_shared(connection: Connection) -> None:
    """Set up our side only: what is set in a session of a transaction pooler, the application would find there."""
    _configure_client(connection)
    # Part of each BEGIN, so that no default of the role's or the database's counts.
    await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
    await connection.set_read_only(False)


def _configure_client(connection: Connection) -> None:
    set_json_loads(_loads, connection)
    connection.add_notice_handler(_heed)


def _heed(notice: psycopg.errors.Diagnostic) -> None:
    """Log what our functions have to say: what could not be expired, what a dry run would expire."""
    message = notice.message_primary or ""
    if message.startswith("creditsd "):
        say = log.warning if notice.severity_nonlocalized == "WARNING" else log.info
        say("database.noticed", message=message.removeprefix("creditsd "))


def _not_connected(error: psycopg.OperationalError, dsn: str) -> ConfigError | DatabaseUnavailable:
    line = redact_dsn(_line(error))
    if any(words in line for words in _WRONG_SETTINGS):
        return ConfigError(f"{line}: check CREDITSD_DSN")
    if not dsn:
        return DatabaseUnavailable(
            f"{line}: no dsn is set, so libpq's own variables say where PostgreSQL is: set CREDITSD_DSN, or, "
            "where only the systemd unit has it: sudo CREDITSD_DSN_FILE=/etc/creditsd/dsn creditsd ..."
        )
    return DatabaseUnavailable(f"{line}: is PostgreSQL running, and is CREDITSD_DSN right?")


def _line(error: BaseException) -> str:
    """Return the message in one line, without the driver's hints."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].removeprefix("connection failed: ") if lines else type(error).__name__
