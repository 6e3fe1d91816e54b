"""What is installed in a database, and in what the database differs from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from psycopg import sql

from creditsd.config.settings import Settings
from creditsd.domain.errors import SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row, rows
from creditsd.schema import triggers
from creditsd.schema.source_table import SourceTable

# Types first, then what uses them; PL/pgSQL looks functions up when they run, SQL functions when they are made.
FUNCTIONS = (
    "signed_in",
    "source_rows",
    "users_after",
    "users_estimated",
    "counts",
    "totals",
    "differs",
    "search_path_of_owner",
    "note_problem",
    "set_expired",
    "expire_empty",
    "summable",
    "events_after",
    "recompute",
    "due_seconds",
    "functions_digest",
    "fingerprint",
    "heartbeat",
    "begin_resync",
    "resume",
    "drain",
    "recompute_due",
    "resync_next",
    "purge",
    "tidy_history",
    "forget",
)

_INSTALL = "run `creditsd install`"


@dataclass(frozen=True, slots=True)
class Installation:
    """What is installed: the newest migration, a digest of all the rest, the type of a user's id, the role granted.

    `functions` condenses them as they were made; `functions_told`, whether the function is there that does it now.
    """

    migration: int
    digest: str
    user_id_type: str
    user_id_collation: str | None
    role: str
    functions: str
    functions_told: bool


@dataclass(frozen=True, slots=True)
class Divergence:
    """One way in which the database is not as `install` leaves it, and what mends it.

    `fatal` where nothing can be computed; else changes may be missed, and all others go on.
    """

    what: str
    hint: str = _INSTALL
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {self.hint}" if self.hint else self.what


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is installed, if anything, and in what the database differs from it."""

    installation: Installation | None
    divergences: list[Divergence]

    def installed(self, *, wholly: bool) -> Installation:
        """Return what is installed. Raises SchemaError with the first divergence, or the first that is fatal."""
        for each in self.divergences:
            if wholly or each.fatal:
                raise SchemaError(str(each))
        assert self.installation is not None
        return self.installation


async def missing(connection: Connection, settings: Settings) -> Installation:
    """Check that all is there as these settings would install it, and nothing could be missed; return what is.

    Raises SchemaError with the first thing that is missing and its mend.
    """
    return (await compare(connection, settings)).installed(wholly=True)


async def usable(connection: Connection, settings: Settings) -> Installation:
    """Check that totals can be computed, though changes may be missed; return what is installed. Raises SchemaError."""
    return (await compare(connection, settings)).installed(wholly=False)


async def compare(connection: Connection, settings: Settings) -> Comparison:
    """Compare what is installed with what is there: what these settings ask for, and whether every change is seen."""
    try:
        source = await SourceTable.inspect(connection, settings)
    except SchemaError as error:
        return Comparison(None, [Divergence(str(error), hint="", fatal=True)])
    installation = await found(connection)
    if installation is None:
        return Comparison(None, [Divergence("creditsd is not installed in this database", fatal=True)])
    unusable = _unusable(source, installation)
    if unusable is not None:
        return Comparison(installation, [unusable])
    divergences = [Divergence(each) for each in await triggers.faults(connection, source)]
    if installation.digest != digest(source, settings):
        divergences.append(Divergence("the table or the settings differ from what is installed"))
    misowned = await row(connection, sql_files.sql("queries/misowned"), {"relation": source.oid})
    if misowned is not None:
        function, lends, owner = misowned
        divergences.append(Divergence(f"creditsd.{function} runs as {lends}, not as {owner}, who owns the table"))
    elif not await functions_as_made(connection, installation):
        divergences.append(Divergence("functions of the schema creditsd are not as they were made"))
    return Comparison(installation, divergences)


async def found(connection: Connection) -> Installation | None:
    """Return what is installed, or None. Raises SchemaError where an install was taken apart by hand."""
    if not (await rows(connection, sql_files.sql("queries/installed")))[0][0]:
        return None
    there = await row(connection, sql_files.sql("queries/installation"))
    if there is None:
        raise SchemaError("the schema creditsd is there, but empty: run `creditsd uninstall`, then `creditsd install`")
    return Installation(*there)


async def functions_as_made(connection: Connection, installation: Installation) -> bool:
    """Whether nobody has replaced or dropped a function of ours."""
    if not installation.functions_told:
        return False
    now = await row(connection, sql_files.sql("queries/functions_digest"))
    return now is not None and now[0] == installation.functions


def not_newer(installation: Installation) -> None:
    """Raise SchemaError where a newer creditsd has installed."""
    newer = _newer(installation)
    if newer is not None:
        raise SchemaError(str(newer))


def repeatable(source: SourceTable, settings: Settings) -> list[str]:
    """Return what is made anew whenever it differs: the functions, and who may use them."""
    ring = "capture/ring" if settings.wakeup == "doorbell" else "capture/no_ring"
    capture = sql_files.filled("capture/functions", **source.fragments(), ring=sql.SQL(sql_files.sql(ring).strip()))
    return [
        *(source.filled(f"functions/{name}") for name in FUNCTIONS),
        capture,
        sql_files.sql("capture/rights"),
        source.filled("capture/owner"),
    ]


def digest(source: SourceTable, settings: Settings) -> str:
    """Condense the SQL of functions and triggers: it differs exactly when `install` has something to do."""
    text = "\n".join([*repeatable(source, settings), *triggers.definitions(source)])
    return hashlib.sha256(text.encode()).hexdigest()


def note(source: SourceTable, settings: Settings) -> str:
    """Return the SQL that notes what is installed; after everything else."""
    values = {
        "migration": sql_files.migrations()[-1][0],
        "digest": digest(source, settings),
        "source": json.dumps(settings.source.model_dump(), sort_keys=True),
        "role": settings.role,
    }
    literals = {name: sql.Literal(value) for name, value in values.items()}
    return sql_files.filled("queries/note_installation", **literals).strip() + ";"


def _unusable(source: SourceTable, installation: Installation) -> Divergence | None:
    newest = sql_files.migrations()[-1][0]
    if (newer := _newer(installation)) is not None:
        return newer
    if installation.migration < newest:
        what = f"the schema is at migration {installation.migration}, this creditsd needs {newest}"
        return Divergence(what, fatal=True)
    if source.user_id_type != (installation.user_id_type, installation.user_id_collation):
        column = f"{source.settings.table}.{source.settings.columns.user_id}"
        what = f"{column} is {source.user_id_type[0]}, but creditsd was installed for {installation.user_id_type}"
        return Divergence(what, fatal=True)
    return None


def _newer(installation: Installation) -> Divergence | None:
    newest = sql_files.migrations()[-1][0]
    if installation.migration <= newest:
        return None
    what = f"the schema is at migration {installation.migration}, this creditsd knows {newest}"
    return Divergence(what, hint="upgrade creditsd", fatal=True)
