"""Puts our schema and the triggers into a database, as often as it is asked, and takes them away again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from psycopg import errors, sql
from psycopg.rows import TupleRow

from creditsd.config.command import of_installation
from creditsd.config.settings import Settings
from creditsd.config.types import parse_relation
from creditsd.domain.errors import DatabaseUnavailable, NotAgreed, SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, check_own, connected, row, rows, translated
from creditsd.postgres.session import limit_lock_waits, schema_of
from creditsd.schema import grants, hints, installation, triggers
from creditsd.schema.installation import Installation, missing, usable
from creditsd.schema.source_table import SourceTable

__all__ = ["Installation", "Installed", "install", "missing", "script", "uninstall", "usable"]

log = structlog.get_logger()

# Nothing of the application's waits behind us there: it is given up later than a lock on the table, to name who has it.
TURN_PATIENCE = 10


@dataclass(frozen=True, slots=True)
class Installed:
    """What an install or uninstall did: the lines to tell a person, none when nothing was to be done."""

    done: list[str]
    notes: list[str]


async def install(settings: Settings, *, agreed: bool = False) -> Installed:
    """Make the schema and the triggers what they should be, in one transaction; safe to repeat, and many at once.

    Another table than the installed one is taken over only where a person has `agreed`; else it raises NotAgreed.

    Gives up a lock on the table after `lock_timeout_seconds` and tries again for `lock_wait_seconds`, so that the
    application never queues behind us. Raises SchemaError, DatabaseUnavailable.
    """
    async with connected(settings.direct_dsn, purpose="install", schema=settings.schema, direct=True) as connection:
        return await _patiently(connection, settings, lambda: _install(connection, settings, agreed=agreed))


async def uninstall(settings: Settings, *, agreed: bool = False) -> Installed:
    """Remove the triggers and the schema with all it stores; fails where others have built on it.

    Raises NotAgreed where a daemon leads, unless a person has `agreed`.
    """
    async with connected(settings.direct_dsn, purpose="uninstall", schema=settings.schema, direct=True) as connection:
        return await _patiently(connection, settings, lambda: _uninstall(connection, agreed=agreed))


async def script(settings: Settings) -> str:
    """Return the SQL that `install` would run on a database where nothing is installed."""
    async with connected(settings.dsn, purpose="install", schema=settings.schema, shared=settings.shared) as connection:
        source = await SourceTable.inspect(connection, settings)
        async with connection.transaction():
            source = await source.with_condition(connection, "pg_temp")
        parts = [
            *(source.filled(name) for _, name in sql_files.migrations()),
            *installation.repeatable(source, settings),
            *(await triggers.statements(connection, source)),
            installation.note(source, settings),
            grants.daemon(settings.schema, settings.role or "your_role", commented=not settings.role),
            grants.reader(settings.schema, settings.reader or "authenticated", commented=not settings.reader),
            sql_files.filled("queries/guarded", settings.schema).strip() + ";",
        ]
    return "BEGIN;\n\n" + "\n\n".join(part.strip() for part in parts) + "\n\nCOMMIT;\n"


async def _patiently(
    connection: Connection, settings: Settings, attempt: Callable[[], Awaitable[Installed]]
) -> Installed:
    """Run one transaction that may have to wait for locks, a short while at a time."""
    deadline = time.monotonic() + settings.lock_wait_seconds
    pause = settings.lock_timeout_seconds
    turn_seconds = TURN_PATIENCE * settings.lock_timeout_seconds
    while True:
        turn = False
        try:
            with translated(connection):
                async with connection.transaction():
                    await check_own(connection)
                    await limit_lock_waits(connection, min(turn_seconds, max(deadline - time.monotonic(), 0.05)))
                    await connection.execute(sql_files.sql("queries/install_turn"))
                    turn = True
                    await limit_lock_waits(connection, settings.lock_timeout_seconds)
                    with _naming_dependents():
                        return await attempt()
        except DatabaseUnavailable as error:
            if not isinstance(error.__cause__, errors.LockNotAvailable | errors.DeadlockDetected):
                raise
            holder = await (_holder(connection, settings) if turn else _turn_holder(connection))
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(_never_free(settings, holder, turn=turn)) from error
            if not turn:
                log.warning("schema.turn_awaited", holder=holder.strip() or None)
                continue
            log.warning("schema.lock_refused", table=settings.source.table, holder=holder.strip() or None)
            # Longer pauses than tries: the application passes in between.
            await asyncio.sleep(pause * random.uniform(1, 2))
            pause = min(pause * 1.5, 5.0)


async def _install(connection: Connection, settings: Settings, *, agreed: bool) -> Installed:
    source = await _installable(connection, settings)
    await installation.check_name(connection, source)
    installed = await installation.found(connection)
    settings = _remembering(settings, installed)
    done: list[str] = []
    notes = [*hints.of_table(source), *await hints.forgotten(connection, source)]
    if installed is not None:
        installation.not_newer(installed)
        if not agreed:
            await _same_table(connection, source)
    readers = await rows(connection, sql_files.sql("queries/source_readers"))
    retyped = installed is not None and source.user_id_type != (installed.user_id_type, installed.user_id_collation)
    if installed is not None and (retyped or _new_migrations(installed)):
        await triggers.lock_first(connection, source)
    done += await _migrate(connection, source, installed)
    source = await source.with_condition(connection)
    migrated = bool(done)
    changed = migrated or retyped or not await _as_made(connection, source, settings, installed)
    if changed:
        await _replace(connection, source, settings, retyped=retyped)
        await grants.let_read_source(connection, settings.schema, readers)
        done += [f"gave user_id the type {source.user_id_type[0]}"] if retyped else []
        done.append("made the functions")
        done += [] if installed is None else hints.newly_read(source, installed)
        if installed is None or not (migrated or retyped):  # those hold locks that writers wait for
            notes += await hints.left_out(connection, source)
    put = await triggers.put_right(connection, source)
    done += put
    if (put or retyped) and installed is not None:
        # What was written while a trigger was missing, nobody has seen.
        await connection.execute(sql_files.sql("queries/table_mended"))
        done.append("asked for everyone to be recomputed")
    if changed or (installed is not None and settings.role != installed.role):
        await connection.execute(installation.note(source, settings).encode())
        done += [f"granted {settings.role} what the daemon needs"] if settings.role else []
    done += await grants.grant(connection, settings)
    return Installed(done=done, notes=notes)


async def _installable(connection: Connection, settings: Settings) -> SourceTable:
    """Look the table up. Raises SchemaError where we may not install there, or could not see every change."""
    source = await SourceTable.inspect(connection, settings)
    if not source.may_install:
        said = (
            f"{settings.source.table} belongs to {source.owner}: run `creditsd install` as {source.owner}, "
            "as a member of that role, or as a superuser"
        )
        raise SchemaError(of_installation(said, settings.schema))
    for each in await installation.unseen(connection, source):
        raise SchemaError(str(each))
    return source


async def _same_table(connection: Connection, source: SourceTable) -> None:
    """Raise NotAgreed where another table was installed for; one that was renamed has our triggers, and is the same."""
    there = await row(connection, sql_files.sql("queries/installed_table"))
    if there is None or there[0] is None or parse_relation(there[0]) == source.settings.relation:
        return
    if all(each.state == "missing" for each in await triggers.found(connection, source)):
        raise NotAgreed(
            f"creditsd is installed for {there[0]}, and these settings name {source.settings.table}: every total would "
            f"be computed anew from {source.settings.table}, and what differs published (to have both, set "
            "CREDITSD_SCHEMA to another name)"
        )


async def _migrate(connection: Connection, source: SourceTable, installed: Installation | None) -> list[str]:
    new = _new_migrations(installed)
    # What is there has the type it was made with; what comes is retyped with it, if need be.
    kind = {} if installed is None else _user_id_fragments(installed)
    await _at_once(connection, [source.filled(name, **kind) for name in new])
    return [f"applied {name.removeprefix('migrations/')}" for name in new]


def _new_migrations(installed: Installation | None) -> list[str]:
    return [name for number, name in sql_files.migrations() if installed is None or number > installed.migration]


async def _at_once(connection: Connection, statements: Sequence[str]) -> None:
    """Run them in one round trip: a migration may lock what triggers write to, and writers wait until we commit."""
    if statements:
        await connection.execute("\n".join(statements).encode())


def _user_id_fragments(installed: Installation) -> dict[str, sql.Composable]:
    collation = installed.user_id_collation
    return {
        "user_id_type": sql.SQL(installed.user_id_type),
        "user_id_collation": sql.SQL(f" COLLATE {collation}" if collation else ""),
    }


async def _as_made(
    connection: Connection, source: SourceTable, settings: Settings, installed: Installation | None
) -> bool:
    """Whether every function is the one that these settings ask for, and the owner's of the table."""
    if installed is None or installed.digest != installation.digest(source, settings):
        return False
    if installed.source.get("condition") != installation.condition(source):
        return False
    misowned = await row(connection, sql_files.sql("queries/misowned"), {"relation": source.oid})
    return misowned is None and await installation.functions_as_made(connection, installed)


def _remembering(settings: Settings, installed: Installation | None) -> Settings:
    """Name the role again that was named once: functions made anew have lost their grants."""
    role = settings.role or (installed.role if installed is not None else "")
    return settings.model_copy(update={"role": role})


async def _uninstall(connection: Connection, *, agreed: bool) -> Installed:
    if not (await rows(connection, sql_files.sql("queries/installed")))[0][0]:
        return Installed(done=[], notes=[])
    led = await row(connection, sql_files.sql("queries/leader_found"))
    if not agreed and led is not None and led[0]:
        status = of_installation("`creditsd status`", schema_of(connection))
        raise NotAgreed(
            f"a daemon leads here (see {status}): all it has stored would go, and no sink would be told anything more"
        )
    done = []
    for relation, trigger in await rows(connection, sql_files.sql("queries/trigger_names")):
        await connection.execute(sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger), sql.SQL(relation)))
        done.append(f"dropped {trigger} of {relation}")
    await _drop_functions(connection)
    await connection.execute(sql_files.sql("uninstall"))
    return Installed(done=[*done, f"dropped the schema {schema_of(connection)}"], notes=[])


@contextmanager
def _naming_dependents() -> Iterator[None]:
    """Say what somebody has built on what we are to drop. Raises SchemaError."""
    try:
        yield
    except errors.DependentObjectsStillExist as error:
        said = (error.diag.message_detail or str(error)).splitlines()[0]
        raise SchemaError(f"{said}: drop what is not ours first, make it anew afterwards, and try again") from error


async def _replace(connection: Connection, source: SourceTable, settings: Settings, *, retyped: bool) -> None:
    """Make every function anew; what triggers, and others' views, hold on to is replaced in place."""
    await _drop_functions(connection)
    await connection.execute(sql.SQL("DROP TYPE IF EXISTS {}").format(sql.Identifier(settings.schema, "total")))
    if retyped:
        await connection.execute(source.filled("retype/tables").encode())
    made = installation.repeatable(source, settings)
    await _at_once(connection, [*made, source.filled("retype/policies")] if retyped else made)


async def _drop_functions(connection: Connection) -> None:
    """Drop every function but those that triggers hold on to; all at once, for some are made of others."""
    signatures = [sql.SQL(signature) for (signature,) in await rows(connection, sql_files.sql("queries/functions"))]
    if signatures:
        await connection.execute(sql.SQL("DROP FUNCTION {}").format(sql.SQL(", ").join(signatures)))


async def _holder(connection: Connection, settings: Settings) -> str:
    """Say who holds the table, for the line a person reads."""
    source = await SourceTable.inspect(connection, settings)
    return _said(await row(connection, sql_files.sql("queries/holders"), {"relation": source.oid}))


async def _turn_holder(connection: Connection) -> str:
    """Say who installs, or holds the lock of those who do."""
    return _said(await row(connection, sql_files.sql("queries/install_turn_holders")))


def _said(holder: TupleRow | None) -> str:
    if holder is None:
        return ""
    pid, application, seconds = holder
    return f" (process {pid}, {application}, has held it for {seconds or 0:.0f} s)"


def _never_free(settings: Settings, holder: str, *, turn: bool) -> str:
    """Say what could not be had, and what to do."""
    if turn:
        table, seconds = settings.source.table, settings.lock_timeout_seconds
        return f"{table} was never free for {seconds:g} s at a time{holder}: try again when that has ended"
    return (
        f"the lock that lets one install at a time was not free for {settings.lock_wait_seconds:g} s{holder}: "
        "try again when that has ended, or end it"
    )
