"""Which words the status column can hold, and whether the settings name others."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg
from psycopg import sql

from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row
from creditsd.postgres.session import schema_of

_RANGES = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
# What PostgreSQL writes in its own way, or cuts. It is asked of its own types alone: nobody else's functions run.
_REWRITTEN = {"varchar", "bpchar", "char", "numeric", "float4", "float8"}


@dataclass(frozen=True, slots=True)
class StatusWords:
    """The words of a status column, by the type beneath any domain, and, of an enum, its labels.

    A word must be as PostgreSQL writes the value as text: that is how a row's status is compared. What a CHECK allows
    is not known here.
    """

    base: str
    declared: str
    labels: list[str] | None

    async def refusal(self, connection: Connection, word: str) -> str:
        """Say why no row's status can read so; empty where the type allows it."""
        if self.labels is not None:
            return "" if word in self.labels else f"it has {', '.join(self.labels)}"
        if self.base == "bool":
            return "" if word in ("true", "false") else "it is boolean, and has true and false"
        if self.base in _RANGES:
            most = _RANGES[self.base]
            fits = _WHOLE.fullmatch(word) is not None and len(word) <= 20 and -most <= int(word) < most
            return "" if fits else f"it has whole numbers from {-most} to {most - 1}, without leading zeros"
        if self.base not in _REWRITTEN:
            return ""
        written = await self._written(connection, word)
        if written is None:
            return f"it is {self.declared}"
        return "" if written == word else f"it is {self.declared}, which makes {written!r} of it"

    async def _written(self, connection: Connection, word: str) -> str | None:
        """Return how PostgreSQL writes a word that is read as of this type; None for what is none."""
        query = sql_files.filled("queries/status_written", schema_of(connection), type=sql.SQL(self.declared))
        try:
            async with connection.transaction(force_rollback=True):
                found = await row(connection, query, {"word": word})
        except psycopg.DataError:
            return None
        assert found is not None
        return str(found[0])
