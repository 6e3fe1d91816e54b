"""`source.where`: the condition on a row, checked and read by PostgreSQL itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from creditsd.config.source_settings import SourceSettings
from creditsd.domain.errors import ConfigError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row

# Words that become a time as soon as they are read as one, and so that of the moment at which somebody installs.
_CLOCK_WORDS = re.compile(r"\b(?:now|today|tomorrow|yesterday)\b", re.IGNORECASE)

# The words that a function's body stands between.
_QUOTE = "$function$"

_WRITE_ONE = "write one condition on the table's columns, as after WHERE, and name what is of another schema with it"
_BUILT_IN = (
    "compare columns by PostgreSQL's own immutable functions and operators; what takes more can be a column "
    "(GENERATED ALWAYS AS … STORED)"
)
_TIMES = "a row that begins or ends by time has its times in source.columns.starts_at and expires_at"


class _Read(NamedTuple):
    """The condition as PostgreSQL has read it, and what of it cannot be."""

    expression: str
    columns: list[str]
    reads_more: bool
    clocks: list[str]
    unfit: list[str]
    reads_words_as_times: bool


@dataclass(frozen=True, slots=True)
class RowCondition:
    """The condition as PostgreSQL writes it out, every name with its schema, and the types of the columns it reads."""

    expression: str
    columns: Mapping[str, str]

    @classmethod
    async def read(
        cls, connection: Connection, source: SourceSettings, types: Mapping[str, str], *, schema: str
    ) -> RowCondition:
        """Read the condition in a transaction, for which `schema` must let us create a table. Nothing of it stays.

        Raises ConfigError where it is not one condition on a row, or could change its mind about one.
        """
        try:
            async with connection.transaction(force_rollback=True):
                read = await _read(connection, source, schema)
        except (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.DataError) as error:
            raise refusal(source, error.diag.message_primary or str(error), _WRITE_ONE) from error
        _check(source, read)
        return cls(read.expression, {name: types[name] for name in read.columns})

    def document(self) -> dict[str, Any]:
        """Return it as it is noted beside what is installed."""
        return asdict(self)


def refusal(source: SourceSettings, what: str, hint: str) -> ConfigError:
    """Return the error that says, in one line, why the condition cannot be used."""
    shown = " ".join(source.where.split())
    return ConfigError(
        f"source.where = {shown if len(shown) <= 80 else f'{shown[:79]}…'!r}: {' '.join(what.split())}: {hint}"
    )


async def _read(connection: Connection, source: SourceSettings, schema: str) -> _Read:
    """Put it on a table without rows, which executes nothing of it, and ask the catalog."""
    copy = sql.Identifier(schema, "condition")
    names = {
        "copy": copy,
        "copy_literal": sql.Literal(copy.as_string(None)),
        "in_round": sql.Identifier(schema, "condition_in_round"),
        "in_square": sql.Identifier(schema, "condition_in_square"),
        "table": sql.Identifier(*source.relation),
        "condition": sql.SQL(source.where),
    }
    await row(connection, sql_files.filled("queries/condition_copied", schema, **names))
    await _search(connection, "pg_catalog", source.relation[0], "pg_temp")
    # The order matters: only what is one expression may stand in a statement that could do more than read. And binary
    # results are had by a protocol that takes no second statement.
    for each in ("queries/condition_in_round", "queries/condition_in_square", "queries/condition_parsed"):
        await connection.execute(sql_files.filled(each, schema, **names).encode(), binary=True)
    await _search(connection, "pg_catalog", "pg_temp")
    found = await row(connection, sql_files.filled("queries/condition_read", schema, **names))
    assert found is not None
    return _Read(*found)


async def _search(connection: Connection, *schemas: str) -> None:
    path = sql.SQL(", ").join(map(sql.Identifier, schemas))
    await connection.execute(sql.SQL("SET LOCAL search_path = {}").format(path))


def _check(source: SourceSettings, read: _Read) -> None:
    """Raise ConfigError where what PostgreSQL can read would not always say the same of a row, or of more than it."""
    if read.clocks or _tells_time(source.where, read):
        named = f" ({', '.join(read.clocks)})" if read.clocks else ""
        raise refusal(source, f"it speaks of the clock{named}, and no change tells of that", _TIMES)
    if read.reads_more:
        raise refusal(source, "it reads the row as a whole, or a system column", _WRITE_ONE)
    if read.unfit:
        raise refusal(source, f"it uses {read.unfit[0]}", _BUILT_IN)
    if _QUOTE in read.expression:
        raise refusal(source, f"it holds {_QUOTE}", "write it without")


def _tells_time(where: str, read: _Read) -> bool:
    """Whether a word such as 'now' is, or has been, read as a time."""
    written = Counter(word.lower() for word in _CLOCK_WORDS.findall(where))
    left = Counter(word.lower() for word in _CLOCK_WORDS.findall(read.expression))
    return bool(written - left) or (bool(written) and read.reads_words_as_times)
