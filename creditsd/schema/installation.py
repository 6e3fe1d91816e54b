"""What is installed in a database, and in what the database differs from it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from psycopg import sql

from creditsd.config.command import of_installation
from creditsd.config.settings import Settings
from creditsd.domain.errors import SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row, rows
from creditsd.postgres.session import schema_of
from creditsd.schema import triggers
from creditsd.schema.source_table import SourceTable

# Types first, then what uses them; PL/pgSQL looks functions up when they run, SQL functions when they are made.
FUNCTIONS = (
    "signed_in",
    "amount",
    "source_rows",
    "users_after",
    "users_estimated",
    "counts",
    "totals",
    "level",
    "differs",
    "search_path_of_owner",
    "note_problem",
    "keepable",
    "set_expired",
    "expire_empty",
    "summable",
    "events_after",
    "recompute",
    "due_seconds",
    "drain_few",
    "functions_digest",
    "fingerprint",
    "nothing_matches",
    "heartbeat",
    "home",
    "begin_resync",
    "resume",
    "drain",
    "recompute_due",
    "resync_next",
    "purge",
    "tidy_history",
    "forget",
    "guard",
)

_INSTALL = "run `creditsd install`"


@dataclass(frozen=True, slots=True)
class Installation:
    """What is installed: the newest migration, a digest of all the rest, the type of a user's id, the role granted.

    `source` is the section of the settings it was made with, and how `source.where` was read; `functions` condenses our
    functions as they were made; `functions_told`, whether the function is there that does it now.
    """

    migration: int
    digest: str
    user_id_type: str
    user_id_collation: str | None
    role: str
    source: Mapping[str, Any]
    functions: str
    functions_told: bool


class Stops(IntEnum):
    """How much a divergence stops: nothing, but changes may be missed; totals; or all, since nothing can be read."""

    NOTHING = 0
    TOTALS = 1
    EVERYTHING = 2


@dataclass(frozen=True, slots=True)
class Divergence:
    """One way in which the database is not as `install` leaves it, and what mends it."""

    problem: str
    hint: str = _INSTALL
    stops: Stops = Stops.NOTHING

    def __str__(self) -> str:
        return f"{self.problem}: {self.hint}" if self.hint else self.problem

    def said_for(self, schema: str) -> Divergence:
        """Return it with what mends it in the installation of that name."""
        return replace(self, hint=of_installation(self.hint, schema))

    def document(self) -> dict[str, str]:
        """Give it under the keys of /readyz and `creditsd status --json`."""
        return {"problem": self.problem, "hint": self.hint}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is installed, if anything, and in what the database differs from it."""

    installation: Installation | None
    divergences: list[Divergence]

    def installed(self, *, tolerated: Stops | None = None) -> Installation:
        """Return what is installed. Raises SchemaError with the first divergence that is not tolerated."""
        for each in self.divergences:
            if tolerated is None or each.stops > tolerated:
                raise SchemaError(str(each))
        assert self.installation is not None
        return self.installation


async def missing(connection: Connection, settings: Settings) -> Installation:
    """Check that all is there as these settings would install it, and nothing could be missed; return what is.

    Raises SchemaError with the first thing that is missing and its mend.
    """
    return (await compare(connection, settings)).installed()


async def usable(connection: Connection, settings: Settings) -> Installation:
    """Check that totals can be computed, though changes may be missed; return what is installed. Raises SchemaError."""
    return (await compare(connection, settings)).installed(tolerated=Stops.NOTHING)


async def compare(connection: Connection, settings: Settings) -> Comparison:
    """Compare what is installed with what is there: what these settings ask for, and whether every change is seen."""
    compared = await _compared(connection, settings)
    return replace(compared, divergences=[each.said_for(settings.schema) for each in compared.divergences])


async def _compared(connection: Connection, settings: Settings) -> Comparison:
    try:
        source = await SourceTable.inspect(connection, settings)
    except SchemaError as error:
        installation = None
        with contextlib.suppress(SchemaError):  # the first one says more
            installation = await found(connection)
        unread = _unread(installation)
        return Comparison(installation, [Divergence(str(error), "", Stops.TOTALS if unread is None else unread.stops)])
    installation = await found(connection)
    divergence = _unread(installation) or _retyped(source, installation)
    if installation is None or divergence is not None:
        return Comparison(installation, [divergence] if divergence is not None else [])
    divergences = [Divergence(each) for each in await triggers.faults(connection, source)]
    divergences += await unseen(connection, source)
    divergences += _unread_by_condition(source, installation)
    if installation.digest != digest(source, settings):
        divergences.append(Divergence("the table or the settings differ from what is installed"))
    misowned = await row(connection, sql_files.sql("queries/misowned"), {"relation": source.oid})
    if misowned is not None:
        function, lends, owner = misowned
        divergences.append(
            Divergence(f"{source.schema}.{function} runs as {lends}, not as {owner}, who owns the table")
        )
    elif not await functions_as_made(connection, installation):
        divergences.append(Divergence(f"functions of the schema {source.schema} are not as they were made"))
    return Comparison(installation, divergences)


async def unseen(connection: Connection, source: SourceTable) -> list[Divergence]:
    """Return what no trigger sees wherever it stands; no install mends it."""
    return [
        Divergence(
            f"{relation} of {source.settings.table} is a foreign table: what is written at its own server is not seen",
            hint="keep its rows in a table of this server, or take it out",
        )
        for relation in await triggers.foreign(connection, source)
    ]


async def found(connection: Connection) -> Installation | None:
    """Return what is installed, or None. Raises SchemaError where an install was taken apart by hand."""
    if not (await rows(connection, sql_files.sql("queries/installed")))[0][0]:
        return None
    there = await row(connection, sql_files.sql("queries/installation"))
    if there is None:
        schema = schema_of(connection)
        mend = of_installation("run `creditsd uninstall`, then `creditsd install`", schema)
        raise SchemaError(f"the schema {schema} is there, but empty: {mend}")
    return Installation(*there)


async def functions_as_made(connection: Connection, installation: Installation) -> bool:
    """Whether nobody has replaced or dropped a function of ours."""
    if not installation.functions_told:
        return False
    now = await row(connection, sql_files.sql("queries/functions_digest"))
    return now is not None and now[0] == installation.functions


async def check_name(connection: Connection, source: SourceTable) -> None:
    """Raise SchemaError where the schema that we would make is there, and somebody else's.

    What a stranger has laid out as an installation would run with the rights of whoever installs, and of the table's
    owner.
    """
    is_ours, is_there = (await rows(connection, sql_files.sql("queries/installed")))[0]
    if is_there and not is_ours:
        raise SchemaError(
            f"there is a schema {schema_of(connection)} that creditsd has not made: set schema (CREDITSD_SCHEMA) to a "
            "name of its own, or drop that one"
        )
    stranger = await row(connection, sql_files.sql("queries/schema_owned"), {"relation": source.oid})
    if stranger is not None:
        raise SchemaError(
            f"the schema {schema_of(connection)}, or what is in it, is {stranger[0]}'s, who does not own "
            f"{source.settings.table}: drop it, set schema (CREDITSD_SCHEMA) to another name, or, if creditsd made it, "
            f"give it and its tables to {source.owner} (ALTER ... OWNER TO)"
        )


def not_newer(installation: Installation) -> None:
    """Raise SchemaError where a newer creditsd has installed."""
    newest = sql_files.migrations()[-1][0]
    if installation.migration > newest:
        raise SchemaError(str(_unread(installation)))


def repeatable(source: SourceTable, settings: Settings) -> list[str]:
    """Return what is made anew whenever it differs: the functions, and who may use them."""
    ring = "capture/ring" if settings.wakeup == "doorbell" else "capture/no_ring"
    capture = source.filled("capture/functions", ring=sql.SQL(sql_files.filled(ring, source.schema).strip()))
    return [
        *(source.filled(f"functions/{name}", user_claim=_step_by_step(settings.http.user_claim)) for name in FUNCTIONS),
        capture,
        source.filled("capture/rights"),
        source.filled("capture/owner"),
    ]


def _step_by_step(claim: Sequence[str]) -> sql.Composable:
    """Write the steps from the claims to the one that names the user; each leads into an object, and never a list."""
    return sql.SQL("").join(sql.SQL(" -> {}").format(sql.Literal(step)) for step in claim)


def digest(source: SourceTable, settings: Settings) -> str:
    """Condense the SQL of functions and triggers: it differs exactly when `install` has something to do."""
    # As source.where is written: to read it takes rights, and a table, that only an install has.
    written = replace(source, condition=None)
    text = "\n".join([*repeatable(written, settings), *triggers.definitions(written)])
    return hashlib.sha256(text.encode()).hexdigest()


def condition(source: SourceTable) -> dict[str, Any] | None:
    """Return what is noted of `source.where`: how it was read, and the columns it reads with their types."""
    return None if source.condition is None else source.condition.document()


def note(source: SourceTable, settings: Settings) -> str:
    """Return the SQL that notes what is installed; after everything else."""
    values = {
        "migration": sql_files.migrations()[-1][0],
        "digest": digest(source, settings),
        "source": json.dumps(settings.source.model_dump() | {"condition": condition(source)}, sort_keys=True),
        "role": settings.role,
    }
    literals = {name: sql.Literal(value) for name, value in values.items()}
    return sql_files.filled("queries/note_installation", source.schema, **literals).strip() + ";"


def _unread(installation: Installation | None) -> Divergence | None:
    """Say why nothing of ours can be read, if so."""
    if installation is None:
        return Divergence("creditsd is not installed in this database", stops=Stops.EVERYTHING)
    newest = sql_files.migrations()[-1][0]
    if installation.migration > newest:
        what = f"the schema is at migration {installation.migration}, this creditsd knows {newest}"
        return Divergence(what, hint="upgrade creditsd", stops=Stops.EVERYTHING)
    if installation.migration < newest:
        what = f"the schema is at migration {installation.migration}, this creditsd needs {newest}"
        return Divergence(what, stops=Stops.EVERYTHING)
    return None


def _unread_by_condition(source: SourceTable, installation: Installation) -> list[Divergence]:
    """Say which columns `source.where` no longer finds as it did; another `where` than is installed differs anyway."""
    noted = installation.source.get("condition")
    if noted is None or installation.source.get("where") != source.settings.where:
        return []
    found = []
    for name, was in noted["columns"].items():
        column = source.columns.get(name)
        which = f"column {name} of {source.settings.table}, which source.where reads"
        if column is None:
            hint = "set source.where to a condition on what there is, and run `creditsd install`"
            found.append(Divergence(f"{which}, is not there any more", hint=hint, stops=Stops.TOTALS))
        elif column.type != was:
            found.append(Divergence(f"{which}, is {column.type} and was {was}"))
    return found


def _retyped(source: SourceTable, installation: Installation | None) -> Divergence | None:
    """Say that the ids have another type than ours, if so."""
    if installation is None or source.user_id_type == (installation.user_id_type, installation.user_id_collation):
        return None
    column = f"{source.settings.table}.{source.settings.columns.user_id}"
    what = f"{column} is {_typed(*source.user_id_type)}, but creditsd was installed for "
    what += _typed(installation.user_id_type, installation.user_id_collation)
    return Divergence(what, stops=Stops.TOTALS)


def _typed(name: str, collation: str | None) -> str:
    return f"{name} COLLATE {collation}" if collation else name
