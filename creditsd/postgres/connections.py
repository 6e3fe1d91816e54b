"""Connections to PostgreSQL, and the one place that translates what the driver raises."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection, IsolationLevel, errors
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from creditsd.config.command import of_installation
from creditsd.config.types import DEFAULT_SCHEMA
from creditsd.domain.errors import ConfigError, DatabaseUnavailable, InputError, LockNotFree, SchemaError, SessionEnded
from creditsd.postgres import pooler, sql_files
from creditsd.postgres.connection_failure import first_line, not_connected
from creditsd.postgres.notices import log_notice
from creditsd.postgres.session import LOCAL_SEARCH_PATH, SETTINGS, Session, schema_of
from creditsd.postgres.sql_files import Query

log = structlog.get_logger()

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

CONNECT_SECONDS = 10
INSTALL = "run `creditsd install`"
LEAVE_SECONDS = 2

# Whoever is gone without a word is noticed within 20 s on both ends (the server's is part of SETTINGS): whether it is
# to speak, which keepalives find out, or has yet to acknowledge something, which keeps keepalives from being sent.
_PARAMETERS: Mapping[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
    "client_encoding": "utf8",  # whatever the database's; a pooler passes it on
}
POOL_SECONDS = 30.0
# By itself a pool that lost its server tries ever less often; where it has given up, whoever asks has it try at once.
RECONNECT_SECONDS = 2.0

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


PROGRAM_LIMITS = (errors.ProgramLimitExceeded, errors.StatementTooComplex)

# A number of credits inside JSON keeps its digits. One decoder: `json.loads` would make another for each document.
_DECODER = json.JSONDecoder(parse_float=Decimal)


@contextmanager
def translated(connection: object = None) -> Iterator[None]:
    """Raise what the driver raises as ours; what is neither the server's state nor its schema passes as a bug.

    What mends it is said for the installation that the connection is of.
    """
    schema = schema_of(connection)
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnavailable(
            "PostgreSQL gave no connection in time: is it up, and max_connections enough?"
        ) from error
    except errors.InsufficientPrivilege as error:
        mend = of_installation("run `creditsd install --role NAME` as the table's owner", schema)
        raise SchemaError(f"{first_line(error)}: this role lacks a right; {mend}") from error
    except _NOT_INSTALLED as error:
        raise SchemaError(f"{first_line(error)}: {of_installation(INSTALL, schema)}") from error
    except PROGRAM_LIMITS:
        raise  # of what a row holds: another try ends the same
    except (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement) as error:
        raise ConfigError(pooler.LENT) from error  # another session serves us than the one we have prepared it in
    except errors.ProtocolViolation as error:
        if "statement pooling mode" in str(error):
            raise ConfigError(pooler.LENT_BY_STATEMENT) from error
        raise DatabaseUnavailable(first_line(error)) from error
    except errors.LockNotAvailable as error:
        raise LockNotFree(first_line(error)) from error
    except _TRY_AGAIN as error:
        raise DatabaseUnavailable(first_line(error)) from error


async def connect(
    dsn: str, *, purpose: str, schema: str = DEFAULT_SCHEMA, shared: bool = False, direct: bool = False
) -> Connection:
    """Open one autocommit connection, set up for our work on the installation in `schema`.

    It may lead through a transaction pooler, as those that are `shared` are known to, unless it is to be `direct`.
    Raises ConfigError where the server answers but refuses who or what we ask for, and where a pooler lends what is to
    be direct; DatabaseUnavailable where it does not answer.
    """
    named = f"{schema} {purpose}"
    connection = await _opened(Session, dsn, named)
    try:
        with translated():
            if direct:
                await _prove_own(connection, dsn, named)
            await _configure(connection, schema=schema, shared=shared, direct=direct)
    except BaseException:
        await connection.close()
        raise
    return connection


@asynccontextmanager
async def connected(
    dsn: str, *, purpose: str, schema: str = DEFAULT_SCHEMA, shared: bool = False, direct: bool = False
) -> AsyncIterator[Connection]:
    """Open a connection for as long as the block lasts."""
    connection = await connect(dsn, purpose=purpose, schema=schema, shared=shared, direct=direct)
    try:
        yield connection
    finally:
        try:
            await _leave(connection)
        finally:
            await connection.close()


def pool(
    dsn: str,
    *,
    purpose: str,
    max_size: int,
    schema: str = DEFAULT_SCHEMA,
    shared: bool = False,
    patience_seconds: float = POOL_SECONDS,
) -> Pool:
    """Make a pool, not yet open, of at most max_size connections that are opened when first needed.

    They are `shared` where the way there is known to lead through a transaction pooler. Who waits for one does so for
    `patience_seconds` at most.
    """
    return AsyncConnectionPool(
        dsn,
        connection_class=Session,
        kwargs=_arguments(f"{schema} {purpose}") | {"prepare_threshold": None},  # old transaction poolers cannot
        configure=partial(_configure, schema=schema, shared=shared),
        check=AsyncConnectionPool.check_connection,
        min_size=0,
        max_size=max_size,
        timeout=patience_seconds,
        max_idle=600,
        reconnect_timeout=RECONNECT_SECONDS,
        open=False,
    )


async def check_own(connection: Connection) -> None:
    """Make sure that a direct connection is served by the session it had at the beginning.

    An idle pooler can pass for one that lends nothing. Raises ConfigError.
    """
    pid = connection.kept_pid if isinstance(connection, Session) else None
    if pid is not None:
        with translated():
            if await pooler.server_pid(connection) != pid:
                raise ConfigError(pooler.LENT)


async def check_there(connection: Connection, again_at: float) -> None:
    """Make sure that the server has not ended a session while it was at rest; asks nothing where it has said nothing.

    Raises SessionEnded, with the time to connect again at.
    """
    try:
        said = select.poll()
        said.register(connection.fileno(), select.POLLIN)
        if said.poll(0):
            await connection.execute("")
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        ended = SessionEnded(first_line(error))
        ended.again_at = again_at
        raise ended from error


@contextmanager
def woken_by(connection: Connection, wake: Callable[[], None]) -> Iterator[None]:
    """Wake when the server speaks on a session that is at rest: it says goodbye, or that it was rung for."""
    loop = asyncio.get_running_loop()
    with translated():
        descriptor = connection.fileno()
    loop.add_reader(descriptor, wake)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)


@asynccontextmanager
async def kept(connection: Connection) -> AsyncIterator[None]:
    """Set or lock something, in the block, in no session but the one that a direct connection had at the beginning.

    Raises ConfigError where another one serves it.
    """
    if not isinstance(connection, Session) or connection.kept_pid is None:
        yield
        return
    try:
        with translated():
            async with connection.transaction():  # for so long, a pooler gives no other session
                await check_own(connection)
                yield
    except DatabaseUnavailable as error:
        if isinstance(error.__cause__, errors.QueryCanceled):  # by whoever waits for the block
            raise error.__cause__ from None
        raise


def is_shared(connection: Connection) -> bool:
    """Whether the session behind a connection may be somebody else's after each transaction."""
    return isinstance(connection, Session) and connection.shared


@asynccontextmanager
async def borrowed(connections: Pool) -> AsyncIterator[Connection]:
    """Take a connection from the pool for as long as the block lasts. Raises DatabaseUnavailable."""
    with translated():
        async with connections.connection() as connection:
            with translated(connection):
                yield connection


@asynccontextmanager
async def transaction(connections: Pool) -> AsyncIterator[Connection]:
    """Take a connection from the pool for one transaction, the length of the block. Raises DatabaseUnavailable."""
    async with borrowed(connections) as connection, connection.transaction():
        yield connection


@asynccontextmanager
async def flushed(connection: Connection) -> AsyncIterator[None]:
    """Have what the block writes, and all that was written before it, on the server's disk once it ends.

    Waits for no standby, which may be away.
    """
    with translated():
        async with connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = local")
            yield


async def rows(connection: Connection, query: Query, parameters: Any = None) -> list[TupleRow]:
    """Run one statement of `sql/` and return its rows, in the binary format.

    One by itself runs once more where an install has made anew, beneath it, what it calls.
    """
    with translated(connection):
        try:
            cursor = await connection.execute(query, parameters, binary=True)
        except errors.InternalError_:  # "cache lookup failed for type …", "could not open relation with OID …"
            if not stands_alone(connection):
                raise
            cursor = await connection.execute(query, parameters, binary=True)
        # Not `description`, which makes an object a column: the dearest part of a short statement on our side.
        return await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []


def stands_alone(connection: Connection) -> bool:
    """Whether a statement that has just failed was no part of a transaction, and may run once more."""
    return connection.info.transaction_status == TransactionStatus.IDLE


async def row(connection: Connection, query: Query, parameters: Any = None) -> TupleRow | None:
    """Run one statement of `sql/` and return its first row, or None."""
    found = await rows(connection, query, parameters)
    return found[0] if found else None


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


def _arguments(named: str) -> dict[str, Any]:
    return {"autocommit": True, "connect_timeout": CONNECT_SECONDS, "application_name": named, **_PARAMETERS}


async def _opened(kind: type[Connection], dsn: str, named: str, **more: Any) -> Connection:
    try:
        return await kind.connect(dsn, **_arguments(named), **more)
    except psycopg.OperationalError as error:
        raise not_connected(error, dsn) from error


async def _prove_own(connection: Connection, dsn: str, named: str) -> None:
    """Raise ConfigError where a pooler lends the session behind a connection to others."""
    if not await pooler.pooled(connection):
        return
    there = connection.info  # others must ask the same pooler, where a name has several addresses
    same = {"host": there.host, "hostaddr": there.hostaddr, "port": there.port} if there.hostaddr else {}
    if await pooler.lends(connection, partial(_opened, AsyncConnection[TupleRow], dsn, named, **same)):
        raise ConfigError(pooler.LENT)
    if isinstance(connection, Session):
        connection.kept_pid = await pooler.server_pid(connection)
        connection.prepare_threshold = None  # in a session that is lent after all, somebody would find it


async def _leave(connection: Connection) -> None:
    """Leave nothing of ours in the session that a pooler has given us, whether it was lent or not."""
    pid = connection.kept_pid if isinstance(connection, Session) else None
    if pid is None or connection.info.transaction_status is not TransactionStatus.IDLE:
        return
    with contextlib.suppress(psycopg.Error, TimeoutError):
        async with asyncio.timeout(LEAVE_SECONDS):
            if await pooler.server_pid(connection) == pid:
                await connection.execute("DISCARD ALL")
                return
            # It was lent, and whoever has it next would find our settings and our locks.
            patient_until = time.monotonic() + LEAVE_SECONDS / 2
            while not await _ended(connection, pid, at_once=time.monotonic() > patient_until):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def _ended(connection: Connection, pid: int, *, at_once: bool) -> bool:
    """End a session that others may use by now; unless `at_once`, between two transactions of theirs."""
    asked = {"pid": pid, "at_once": at_once}
    async with connection.transaction():
        await connection.execute(LOCAL_SEARCH_PATH)
        cursor = await connection.execute(sql_files.sql("queries/session_ended"), asked, prepare=False)
        found = await cursor.fetchone()
    return found is not None and bool(found[0])


async def _configure(connection: Connection, *, schema: str, shared: bool = False, direct: bool = False) -> None:
    """Set the session up; only our side of it where a pooler may lend it to the application next."""
    set_json_loads(_decoded, connection)
    connection.add_notice_handler(log_notice)
    if isinstance(connection, Session):
        connection.schema = schema
    if not (isinstance(connection, Session) and not direct and (shared or await pooler.pooled(connection))):
        async with kept(connection):
            await connection.execute(SETTINGS)
        return
    connection.shared = True
    connection.prepare_threshold = None
    # Part of each BEGIN, so that no default of the session's, the role's or the database's counts.
    await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
    await connection.set_read_only(False)


def _decoded(document: str | bytes) -> Any:
    return _DECODER.decode(document if isinstance(document, str) else document.decode())
