"""One statement of a session of our own, prepared once, and run without what the driver does anew for each run."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import TupleRow

from creditsd.postgres.connections import Connection, rows, stands_alone, translated
from creditsd.postgres.sql_files import Query

# Of a connection that was reset, an event loop may never say that it can be read; the driver looks by itself, too.
_LOOK_SECONDS = 0.1

_numbers = itertools.count(1)
_PARAMETER = re.compile(r"%\((\w+)\)s")


class Prepared:
    """A statement of `sql/` that runs as `rows` runs it.

    Where the driver prepares nothing, since a pooler may lend the session, it is the driver that runs it.
    """

    def __init__(self, connection: Connection, name: str, query: Query) -> None:
        self._connection = connection
        self._name = f"{name} {next(_numbers)}"  # a session may outlive who has prepared it
        self._query = query
        self._parameters: Sequence[str] | None = None  # in the order of their numbers, once it is prepared
        self._reader = Transformer(connection)

    async def rows(self, parameters: Mapping[str, Any]) -> list[TupleRow]:
        """Run it and return its rows. Parameters are text, numbers or None, and the statement says of which type.

        Raises what `rows` raises. Cancelled, it closes the connection: nobody knows then what the server has done.
        """
        connection = self._connection
        if connection.prepare_threshold is None:
            return await rows(connection, self._query, parameters)
        with translated(connection):
            if self._parameters is None:
                await self._prepare()
            named = map(parameters.__getitem__, self._parameters or ())
            values = [None if each is None else str(each).encode() for each in named]
            async with connection.lock:
                try:
                    result = await self._answered(values)
                except errors.InternalError_:  # as in `rows`
                    if not stands_alone(connection):
                        raise
                    result = await self._answered(values)
            self._reader.set_pgresult(result)
            return self._reader.load_rows(0, result.ntuples, tuple)

    async def _prepare(self) -> None:
        """Prepare it, by SQL: the driver's own statements have names of their own."""
        query = self._query if isinstance(self._query, str) else self._query.as_string(self._connection)
        parameters = list(dict.fromkeys(_PARAMETER.findall(query)))
        numbered = _PARAMETER.sub(lambda found: f"${parameters.index(found[1]) + 1}", query).replace("%%", "%")
        prepare = sql.SQL("PREPARE {} AS ").format(sql.Identifier(self._name)).as_bytes(self._connection)
        await self._connection.execute(prepare + numbered.encode(), prepare=False)
        self._parameters = parameters

    async def _answered(self, values: Sequence[bytes | None]) -> PGresult:
        server = self._connection.pgconn
        try:
            server.send_query_prepared(self._name.encode(), values, result_format=1)
            *_, result = await _results(server)
        except BaseException:
            server.finish()
            raise
        if result.status != ExecStatus.TUPLES_OK:
            raise errors.error_from_result(result, encoding="utf-8")
        return result


async def _results(server: PGconn) -> list[PGresult]:
    """Wait until the server has said all there is to a statement. Raises psycopg.OperationalError.

    The library closes the socket of a connection that is lost while it reads, and whoever opens the next one, before we
    go on, gets its number. So it is watched no longer than until the last read.
    """
    if server.flush():
        raise psycopg.OperationalError("the connection takes nothing more")
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[list[PGresult]] = loop.create_future()
    found: list[PGresult] = []

    def read() -> None:
        if answered.done():
            return
        try:
            if not _read(server, found):
                return
            answered.set_result(found)
        except psycopg.Error as error:
            answered.set_exception(error)
        loop.remove_reader(descriptor)

    def look() -> None:
        if not answered.done():
            read()
            loop.call_later(_LOOK_SECONDS, look)

    descriptor = server.socket
    loop.add_reader(descriptor, read)
    looking = loop.call_later(_LOOK_SECONDS, look)
    try:
        return await answered
    finally:
        looking.cancel()
        if answered.cancelled():
            loop.remove_reader(descriptor)


def _read(server: PGconn, found: list[PGresult]) -> bool:
    """Take what has arrived; return whether that is all there is to come. Raises psycopg.OperationalError."""
    server.consume_input()
    while not server.is_busy():
        result = server.get_result()
        if result is None:
            return True
        found.append(result)
    return False
