"""Statements that read the application's rows: totals by the batch, and what such a row may raise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from psycopg import errors
from psycopg.rows import TupleRow

from creditsd.config.command import of_installation
from creditsd.domain.errors import RowsError, SchemaError
from creditsd.domain.total import Total
from creditsd.postgres import sql_files
from creditsd.postgres.connection_failure import first_line
from creditsd.postgres.connections import INSTALL, PROGRAM_LIMITS, Connection, rows, translated
from creditsd.postgres.prepared import Prepared
from creditsd.postgres.session import schema_of
from creditsd.postgres.sql_files import Query

log = structlog.get_logger()

# What the application's rows hold may raise these: sums beyond numeric, casts, functions of the application's own.
_OF_THE_ROWS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    errors.CardinalityViolation,
    errors.CaseNotFound,
    errors.InvalidName,
    errors.NoData,
    errors.NoDataFound,
    errors.PlpgsqlError,
    errors.RaiseException,
    errors.SyntaxError,  # of a pattern, a query or a path that a row holds; ours have none
    errors.TooManyRows,
    *PROGRAM_LIMITS,
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Totals in ascending order of version, and what the database said of the page they came in."""

    totals: list[Total]
    page: dict[str, Any]


async def recomputed(connection: Connection, query: Query, parameters: Any) -> Batch:
    """Run a statement that recomputes users, as `batch` does; users whose rows raise an error are set aside.

    They stop nobody else: the statement is run again, and the database then tries each of them apart.
    """
    try:
        return await batch(connection, query, parameters)
    except _OF_THE_ROWS as error:
        log.warning("balances.tried_apart", reason=first_line(error))
    try:
        with translated(connection):
            async with connection.transaction():
                await connection.execute(sql_files.sql("careful"))
                return await batch(connection, query, parameters)
    except _OF_THE_ROWS as error:  # of no single user's: the ids themselves are not of the type they were
        raise SchemaError(f"{first_line(error)}: {of_installation(INSTALL, schema_of(connection))}") from error


async def attempted(statement: Prepared, parameters: Mapping[str, Any]) -> list[TupleRow] | None:
    """Run a statement; None where what the application's rows hold raises an error: it did nothing.

    The reason is logged, because a fault of the statement's own looks the same.
    """
    try:
        return await statement.rows(parameters)
    except _OF_THE_ROWS as error:
        log.info("balances.attempt_failed", reason=first_line(error))
        return None


async def batch(connection: Connection, query: Query, parameters: Any) -> Batch:
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
        raise RowsError(f"the rows of {user_id!r} cannot be summed up: {first_line(error)}", user_id) from error
