"""The schema `creditsd bench` writes to: made from nothing, and gone when it has ended, however it ended."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from creditsd.config.settings import Settings
from creditsd.config.source_settings import SourceSettings
from creditsd.domain.errors import ConfigError, CreditsdError, DatabaseUnavailable, InputError, SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, connected, row, rows, translated
from creditsd.schema import install as schema

SCHEMA = "creditsd_bench"

_MARK = 'Scratch of "creditsd bench"'


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server as it presents itself; `flushes`: a commit of the application waits for the disk."""

    database: str
    role: str
    version: str
    standby: bool
    read_only: bool
    may_create: bool
    flushes: bool
    free_connections: int


@dataclass(frozen=True, slots=True)
class BenchSchema:
    """The tables `plain`, `notifying` and `captured`, the same but for their triggers."""

    server: ServerFacts
    connection: Connection

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls, settings: Settings, *, clients: int, announce: Callable[[], None]
    ) -> AsyncIterator[BenchSchema]:
        """Make the schema for as long as the block lasts; what a killed bench left behind goes first.

        Announces the first write once nothing speaks against it. Where something does, nothing has been written, and it
        raises ConfigError, SchemaError or InputError.
        """
        # Our turn is a lock of the session, and what a pooler costs is not the question.
        async with connected(settings.direct_dsn, purpose="bench", direct=True) as connection:
            server = await _asked(connection)
            await _check(connection, server, clients)
            announce()
            try:
                await _make(connection, settings)
                yield cls(server, connection)
            finally:
                await _drop(settings, server)

    async def tidy(self) -> None:
        """Make every table as it was, but for its values."""
        for statement in sql_files.filled("bench/tidy", SCHEMA).split(";"):
            if statement.strip():
                await rows(self.connection, statement)


async def _asked(connection: Connection) -> ServerFacts:
    found = await row(connection, sql_files.sql("bench/server"))
    assert found is not None
    return ServerFacts(*found)


async def _check(connection: Connection, server: ServerFacts, clients: int) -> None:
    if server.standby or server.read_only:
        kind = "a read-only replica" if server.standby else "read-only (default_transaction_read_only = on)"
        raise ConfigError(f"this server is {kind}: `creditsd bench` writes, so point CREDITSD_DSN at the primary")
    if not server.may_create:
        raise SchemaError(
            f"role {server.role} may not create a schema in {server.database}: GRANT CREATE ON DATABASE "
            f"{server.database} TO {server.role}, or run `creditsd bench` as the database's owner"
        )
    if clients > server.free_connections:
        raise InputError(
            f"--clients {clients} needs as many connections, and the server has {max(server.free_connections, 0)} "
            "to spare: ask for fewer"
        )
    turn = await row(connection, sql_files.sql("bench/turn"))
    if turn is None or not turn[0]:
        raise DatabaseUnavailable(f"another `creditsd bench` runs in {server.database}: wait for its end")
    comment = await row(connection, sql_files.sql("bench/owner"))
    if comment is not None and not comment[0].startswith(_MARK):
        raise SchemaError(f"there is a schema {SCHEMA} that is not ours, and it would be dropped: rename it")


async def _make(connection: Connection, settings: Settings) -> None:
    """Install the whole of creditsd in the scratch schema: what is measured shall be what `install` puts there."""
    with translated():
        await connection.execute(sql_files.sql("bench/drop"))
        await connection.execute(sql_files.sql("bench/tables"))
    # Only what decides how the triggers are written: no role of theirs is granted anything here.
    ours = Settings(dsn=settings.direct_dsn, wakeup=settings.wakeup, source=SourceSettings(table=f"{SCHEMA}.captured"))
    with translated():
        await connection.execute(relocated(await schema.script(ours)).encode())


def relocated(script: str) -> str:
    """Return the SQL of `install` with another schema's name in it, channel and comments included."""
    return re.sub(r"\bcreditsd\b", SCHEMA, script).replace(f"CREATE SCHEMA {SCHEMA};", "")


async def _drop(settings: Settings, server: ServerFacts) -> None:
    """Drop it on a connection of its own: the other one may have been interrupted in the middle of a statement."""
    try:
        async with connected(settings.direct_dsn, purpose="bench", direct=True) as connection:
            with translated():
                await connection.execute(sql_files.sql("bench/drop"))
    except CreditsdError as error:
        raise DatabaseUnavailable(
            f"{error}; the schema {SCHEMA} is left behind in {server.database}: the next `creditsd bench` removes it"
        ) from error
