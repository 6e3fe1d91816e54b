"""Who may do what in our schema: the SQL that grants it to the daemon's role, and to those who read."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql
from psycopg.rows import TupleRow

from creditsd.config.settings import Settings
from creditsd.domain.errors import SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row

_TO_RUN = "To run the daemon with a restricted role, name it: creditsd install --role NAME"
_TO_READ = "To let signed-in users read, name the role they have in the database: creditsd install --reader NAME"


def daemon(schema: str, role: str, *, commented: bool = False) -> str:
    """Return what grants a restricted role all that `run` needs; commented out, it tells how to ask for it."""
    granted = sql_files.filled("grants", schema, role=sql.Identifier(role))
    return _as_comment(_TO_RUN, granted) if commented else granted


def reader(schema: str, role: str, *, commented: bool = False) -> str:
    """Return what grants the role of signed-in users the reading of their own row; commented out as above."""
    granted = sql_files.filled("reader", schema, reader=sql.Identifier(role))
    return _as_comment(_TO_READ, granted) if commented else granted


async def grant(connection: Connection, settings: Settings) -> list[str]:
    """Grant the daemon's role what it needs, and the readers' what it lacks; return what to tell of the readers.

    Whoever else was let in before, sees their own rows alone from now on.
    """
    if settings.role:
        await connection.execute(daemon(settings.schema, settings.role).encode())
    done = await _let_read(connection, settings.schema, settings.reader) if settings.reader else []
    await guard(connection)
    return done


async def let_read_source(connection: Connection, schema: str, readers: Sequence[TupleRow]) -> None:
    """Let those read the view `source` who could before the function beneath it was made anew; no role is everyone."""
    for role, may_grant in readers:
        grantee = sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
        option = sql.SQL(" WITH GRANT OPTION" if may_grant and role is not None else "")
        function = sql.Identifier(schema, "source_rows")
        await connection.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}{}").format(function, grantee, option))


async def guard(connection: Connection) -> list[str]:
    """Have each signed-in user see their own rows alone, once anybody is let in; return who is, where that is news."""
    found = await row(connection, sql_files.sql("queries/guarded"))
    assert found is not None
    return list(found[0])


async def _let_read(connection: Connection, schema: str, role: str) -> list[str]:
    found = await row(connection, sql_files.sql("queries/reader_granted"), {"reader": role})
    if found is None:
        raise SchemaError(f"there is no role {role!r} that could read: create it, or set reader to another one")
    if found[0]:
        return []
    await connection.execute(reader(schema, role).encode())
    return [f"let the users of {role} read their own balance"]


def _as_comment(hint: str, statements: str) -> str:
    return "\n".join(f"-- {line}" for line in (hint, *statements.splitlines()))
