"""The schema `creditsd` and the triggers: what they should be, install, uninstall, and what is missing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from psycopg import errors, sql

from creditsd.config.settings import Settings
from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import LOCAL_SEARCH_PATH, Connection, connected, row, rows, translated
from creditsd.schema import grants
from creditsd.schema.source_table import SourceTable

log = structlog.get_logger()

TRIGGERS = ("creditsd_insert", "creditsd_update", "creditsd_delete", "creditsd_truncate")

# Types first, then what uses them; PL/pgSQL looks functions up when they run, SQL functions when they are made.
FUNCTIONS = (
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
    "partitions",
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

_TURN = "SELECT pg_advisory_xact_lock(hashtextextended('creditsd install', 0))"


@dataclass(frozen=True, slots=True)
class Installed:
    """What an install or uninstall did: the lines to tell a person, none when nothing was to be done."""

    done: list[str]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Installation:
    """What is installed: the newest migration, a digest of all the rest, the type of a user's id, the role granted."""

    migration: int
    digest: str
    user_id_type: str
    role: str


@dataclass(frozen=True, slots=True)
class _Relation:
    """The table or one of its partitions, and which of our triggers stand on it."""

    oid: int
    name: str
    top: bool
    triggers: frozenset[str]
    always: bool

    @property
    def right(self) -> bool:
        return self.triggers == frozenset(TRIGGERS) and self.always


async def install(settings: Settings) -> Installed:
    """Make the schema and the triggers what they should be, in one transaction; safe to repeat, and many at once.

    Gives up a lock on the table after `lock_timeout_seconds` and tries again for `lock_wait_seconds`, so that the
    application never queues behind us. Raises SchemaError, DatabaseUnavailable.
    """
    async with connected(settings.dsn, purpose="install", shared=bool(settings.listen_dsn)) as connection:
        return await _patiently(connection, settings, lambda: _install(connection, settings))


async def uninstall(settings: Settings) -> Installed:
    """Remove the triggers and the schema with all it stores; fails where others have built on it."""
    async with connected(settings.dsn, purpose="uninstall", shared=bool(settings.listen_dsn)) as connection:
        return await _patiently(connection, settings, lambda: _uninstall(connection))


async def script(settings: Settings) -> str:
    """Return the SQL that `install` would run on a database where nothing is installed."""
    async with connected(settings.dsn, purpose="install", shared=bool(settings.listen_dsn)) as connection:
        source = await SourceTable.inspect(connection, settings)
        parts = [
            *(_filled(name, source) for _, name in sql_files.migrations()),
            *_repeatable(source, settings),
            *(await _trigger_statements(connection, source)),
            _note(source, settings),
            grants.daemon(settings.role or "your_role", commented=not settings.role),
            grants.reader(settings.reader or "authenticated", commented=not settings.reader),
        ]
    return "BEGIN;\n\n" + "\n\n".join(part.strip() for part in parts) + "\n\nCOMMIT;\n"


async def missing(connection: Connection, settings: Settings) -> Installation:
    """Check that what `run` needs is there, as these settings would install it; return what is.

    Raises SchemaError with the first thing that is missing and its mend. Partitions that lack a truncate trigger only
    warn: their rows are captured.
    """
    source = await SourceTable.inspect(connection, settings)
    installed = await _installed(connection)
    if installed is None:
        raise SchemaError("creditsd is not installed in this database: run `creditsd install`")
    _not_newer(installed)
    newest = sql_files.migrations()[-1][0]
    if installed.migration < newest:
        raise SchemaError(
            f"the schema is at migration {installed.migration}, this creditsd needs {newest}: run `creditsd install`"
        )
    _same_user_id_type(source, installed)
    if installed.digest != _digest(source, settings):
        raise SchemaError("the table or the settings differ from what is installed: run `creditsd install`")
    misowned = await row(connection, sql_files.sql("queries/misowned"), {"relation": source.oid})
    if misowned is not None:
        function, lends, owner = misowned
        raise SchemaError(
            f"creditsd.{function} runs as {lends}, not as {owner}, who owns the table: run `creditsd install`"
        )
    for relation in await _relations(connection, source):
        if relation.right:
            continue
        if relation.top:
            raise SchemaError(f"triggers are missing on {relation.name}: run `creditsd install`")
        log.warning("schema.partition_found_bare", partition=relation.name, hint="run `creditsd install`")
    return installed


async def _patiently(
    connection: Connection, settings: Settings, attempt: Callable[[], Awaitable[Installed]]
) -> Installed:
    """Run one transaction that may have to wait for locks, a short while at a time."""
    deadline = time.monotonic() + settings.lock_wait_seconds
    pause = settings.lock_timeout_seconds
    while True:
        try:
            with translated():
                async with connection.transaction():
                    await connection.execute(LOCAL_SEARCH_PATH)
                    await connection.execute(_TURN)
                    await connection.execute(
                        "SELECT set_config('lock_timeout', %s, true)",
                        [f"{int(settings.lock_timeout_seconds * 1000)}ms"],
                    )
                    return await attempt()
        except DatabaseUnavailable as error:
            if not isinstance(error.__cause__, errors.LockNotAvailable | errors.DeadlockDetected):
                raise
            holder = await _holder(connection, settings)
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    f"{settings.source.table} was never free for {settings.lock_timeout_seconds:g} s at a time"
                    f"{holder}: try again when that has ended"
                ) from error
            log.warning("schema.lock_refused", table=settings.source.table, holder=holder.strip() or None)
            # Longer pauses than tries: the application passes in between.
            await asyncio.sleep(pause * random.uniform(1, 2))
            pause = min(pause * 1.5, 5.0)


async def _install(connection: Connection, settings: Settings) -> Installed:
    source = await SourceTable.inspect(connection, settings)
    if not source.may_install:
        raise SchemaError(
            f"{settings.source.table} belongs to {source.owner}: run `creditsd install` as {source.owner}, "
            "as a member of that role, or as a superuser"
        )
    installed = await _installed(connection)
    digest = _digest(source, settings)
    done: list[str] = []
    if installed is not None:
        _not_newer(installed)
        _same_user_id_type(source, installed)
    settings = _remembering(settings, installed)
    for number, name in sql_files.migrations():
        if installed is None or number > installed.migration:
            await connection.execute(_filled(name, source).encode())
            done.append(f"applied {name.removeprefix('migrations/')}")
    misowned = installed is not None and await row(
        connection, sql_files.sql("queries/misowned"), {"relation": source.oid}
    )
    changed = bool(done) or installed is None or digest != installed.digest or bool(misowned)
    if changed:
        await _replace(connection, source, settings)
        done.append("made the functions")
    relations = await _relations(connection, source)
    anew = not relations[0].right
    if anew:
        await _put_triggers(connection, source)
    for relation in relations:
        if anew or not relation.right:
            await _cover(connection, relation)
            done.append(f"put the triggers on {relation.name}")
    if changed or (installed is not None and settings.role != installed.role):
        await connection.execute(_note(source, settings))
        done += [f"granted {settings.role} what the daemon needs"] if settings.role else []
    done += await grants.grant(connection, settings)
    return Installed(done=done, notes=_notes(source))


def _remembering(settings: Settings, installed: Installation | None) -> Settings:
    """Name the role again that was named once: functions made anew have lost their grants."""
    role = settings.role or (installed.role if installed is not None else "")
    return settings.model_copy(update={"role": role})


async def _uninstall(connection: Connection) -> Installed:
    if not (await rows(connection, sql_files.sql("queries/installed")))[0][0]:
        return Installed(done=[], notes=[])
    done = []
    for relation, trigger in await rows(connection, sql_files.sql("queries/trigger_names")):
        await connection.execute(sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger), sql.SQL(relation)))
        done.append(f"dropped {trigger} of {relation}")
    try:
        await _drop_functions(connection)
        await connection.execute(sql_files.sql("uninstall").encode())
    except errors.DependentObjectsStillExist as error:
        said = (error.diag.message_detail or str(error)).splitlines()[0]
        raise SchemaError(f"{said}: drop what is not ours first, then run `creditsd uninstall` again") from error
    return Installed(done=[*done, "dropped the schema creditsd"], notes=[])


async def _replace(connection: Connection, source: SourceTable, settings: Settings) -> None:
    """Make every function anew; what triggers, and others' views, hold on to is replaced in place."""
    await _drop_functions(connection)
    await connection.execute("DROP TYPE IF EXISTS creditsd.total")
    for statement in _repeatable(source, settings):
        await connection.execute(statement)


async def _drop_functions(connection: Connection) -> None:
    """Drop every function but those that triggers hold on to."""
    for (signature,) in await rows(connection, sql_files.sql("queries/functions")):
        await connection.execute(sql.SQL("DROP FUNCTION {}").format(sql.SQL(signature)))


async def _put_triggers(connection: Connection, source: SourceTable) -> None:
    table = source.fragments()["table"]
    for name in TRIGGERS:
        await connection.execute(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(name), table))
        await connection.execute(_filled(f"capture/{name}", source).encode())


async def _cover(connection: Connection, relation: _Relation) -> None:
    """Make the triggers fire under session_replication_role = replica too; a partition gets its own for truncate."""
    name = sql.SQL(relation.name)
    if not relation.top:
        await connection.execute(sql.SQL("DROP TRIGGER IF EXISTS creditsd_truncate ON {}").format(name))
        await connection.execute(sql_files.filled("capture/creditsd_truncate", table=name).encode())
    for trigger in TRIGGERS:
        await connection.execute(
            sql.SQL("ALTER TABLE ONLY {} ENABLE ALWAYS TRIGGER {}").format(name, sql.Identifier(trigger))
        )


async def _trigger_statements(connection: Connection, source: SourceTable) -> list[str]:
    statements = [_filled(f"capture/{name}", source) for name in TRIGGERS]
    for relation in await _relations(connection, source):
        if not relation.top:
            statements.append(sql_files.filled("capture/creditsd_truncate", table=sql.SQL(relation.name)))
        statements += [f"ALTER TABLE ONLY {relation.name} ENABLE ALWAYS TRIGGER {trigger};" for trigger in TRIGGERS]
    return statements


async def _relations(connection: Connection, source: SourceTable) -> list[_Relation]:
    found = await rows(
        connection, sql_files.sql("queries/triggers"), {"relation": source.oid, "triggers": list(TRIGGERS)}
    )
    return [_Relation(oid, name, top, frozenset(triggers or ()), always) for oid, name, top, triggers, always in found]


async def _installed(connection: Connection) -> Installation | None:
    if not (await rows(connection, sql_files.sql("queries/installed")))[0][0]:
        return None
    found = await row(connection, sql_files.sql("queries/installation"))
    if found is None:
        raise SchemaError("the schema creditsd is there, but empty: run `creditsd uninstall`, then `creditsd install`")
    return Installation(*found)


async def _holder(connection: Connection, settings: Settings) -> str:
    """Say who holds the table, for the line a person reads."""
    source = await SourceTable.inspect(connection, settings)
    found = await row(connection, sql_files.sql("queries/holders"), {"relation": source.oid})
    if found is None:
        return ""
    pid, application, seconds = found
    return f" (process {pid}, {application}, has held it for {seconds or 0:.0f} s)"


def _not_newer(installed: Installation) -> None:
    newest = sql_files.migrations()[-1][0]
    if installed.migration > newest:
        raise SchemaError(
            f"the schema is at migration {installed.migration}, this creditsd knows {newest}: upgrade creditsd"
        )


def _same_user_id_type(source: SourceTable, installed: Installation) -> None:
    column = source.column("user_id")
    if column is not None and column.type != installed.user_id_type:
        raise SchemaError(
            f"{source.settings.table}.{column.name} is {column.type}, but creditsd was installed for "
            f"{installed.user_id_type}: run `creditsd uninstall`, then `creditsd install`"
        )


def _repeatable(source: SourceTable, settings: Settings) -> list[str]:
    """Return what is made anew whenever it differs: the functions, and who may use them."""
    ring = "capture/ring" if settings.wakeup == "doorbell" else "capture/no_ring"
    capture = sql_files.filled("capture/functions", **source.fragments(), ring=sql.SQL(sql_files.sql(ring).strip()))
    return [
        *(_filled(f"functions/{name}", source) for name in FUNCTIONS),
        capture,
        sql_files.sql("capture/rights"),
        _filled("capture/owner", source),
    ]


def _digest(source: SourceTable, settings: Settings) -> str:
    """Condense the SQL of functions and triggers: it differs exactly when `install` has something to do."""
    text = "\n".join([*_repeatable(source, settings), *(_filled(f"capture/{name}", source) for name in TRIGGERS)])
    return hashlib.sha256(text.encode()).hexdigest()


def _note(source: SourceTable, settings: Settings) -> str:
    values = {
        "migration": sql_files.migrations()[-1][0],
        "digest": _digest(source, settings),
        "source": json.dumps(settings.source.model_dump(), sort_keys=True),
        "role": settings.role,
    }
    literals = {name: sql.Literal(value) for name, value in values.items()}
    return sql_files.filled("queries/note_installation", **literals).strip() + ";"


def _notes(source: SourceTable) -> list[str]:
    """Say what works, but not as well as it could."""
    table, columns = source.settings.table, source.settings.columns
    notes = [
        f"{table} has no column {name!r}: {_WITHOUT[key]}"
        for key, name in columns.model_dump().items()
        if key in _WITHOUT and source.column(key) is None
    ]
    if not source.indexed:
        notes.append(
            f"{table} has no index that begins with {columns.user_id}: every recompute reads the whole table; "
            f"CREATE INDEX CONCURRENTLY ON {table} ({columns.user_id})"
        )
    return notes


_WITHOUT = {
    "plan_type": "planType is none, no row is a subscription and none is expired when empty",
    "membership": "membership is null",
    "subscription_id": "subscription_id is null",
    "expires_at": "no row ever ends",
    "created_at": "which row is the newest is not known",
}


def _filled(name: str, source: SourceTable) -> str:
    return sql_files.filled(name, **source.fragments())
