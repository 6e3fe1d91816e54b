"""Our triggers: on the table, on each of its partitions, and on whatever inherits from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from psycopg import sql

from creditsd.domain.errors import SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, rows
from creditsd.schema.source_table import SourceTable

EVENTS = ("insert", "update", "delete", "truncate")

_SAID = {
    "missing": "are missing",
    "another": "are not as creditsd makes them",
    "taken": "that are not creditsd's have the names of its own",
    "disabled": "are disabled",
    "conditional": "do not fire for rows that replication or a restore writes",
}


class Trigger(NamedTuple):
    """One of our triggers on one relation, as it is; `cloned` by PostgreSQL from the one on the partitioned table."""

    relation: str
    partition: bool
    name: str
    event: str
    cloned: bool
    state: Literal["right", "missing", "taken", "another", "disabled", "conditional"]

    @property
    def harmless(self) -> bool:
        """Whether nothing is missed: PostgreSQL gives a new partition all but the truncate trigger.

        Until an install has put it there, a truncate is noticed by the partition's file.
        """
        return self.state == "right" or (self.partition and self.event == "truncate" and self.state == "missing")


async def found(connection: Connection, source: SourceTable) -> list[Trigger]:
    """Return what should stand on the table and all below it, and how it is; the table itself first."""
    return [Trigger(*each) for each in await rows(connection, sql_files.sql("queries/triggers"), _of(source))]


class Astray(NamedTuple):
    """Triggers of ours where none belong: on another relation, or, `renamed`, on the table under another name."""

    relation: str
    renamed: bool
    names: Sequence[str]


async def astray(connection: Connection, source: SourceTable) -> list[Astray]:
    """Return our triggers on relations that are not, or no longer, the table, and those that mark its writes twice."""
    return [Astray(*each) for each in await rows(connection, sql_files.sql("queries/triggers_astray"), _of(source))]


async def foreign(connection: Connection, source: SourceTable) -> list[str]:
    """Return the foreign tables below the table: no trigger sees what is written at their own server."""
    return [relation for (relation,) in await rows(connection, sql_files.sql("queries/foreign_tables"), _of(source))]


async def faults(connection: Connection, source: SourceTable) -> list[str]:
    """Say of each relation what of our triggers is wrong, so that a change could be missed."""
    wrong = [each for each in await found(connection, source) if not each.harmless]
    elsewhere = ""
    if wrong and (others := [each.relation for each in await astray(connection, source) if not each.renamed]):
        elsewhere = f" (they stand on {', '.join(others[:3])})"
    said = []
    for (relation, state), _ in groupby(sorted(wrong, key=_relation_and_state), _relation_and_state):
        said.append(f"triggers {_SAID[state]} on {relation}{elsewhere if state == 'missing' else ''}")
    return said


async def put_right(connection: Connection, source: SourceTable) -> list[str]:
    """Put every trigger where and as it should be; return what was done. Locks nothing where all is right.

    Raises SchemaError where a trigger of somebody else's has the name of one of ours.
    """
    there = await found(connection, source)
    _check_names(there)
    done = await _drop_astray(connection, source)
    touched: dict[str, None] = {}
    for each in _misplaced(there):
        await connection.execute(
            sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(each.name), sql.SQL(each.relation))
        )
        touched[each.relation] = None
    for each in await found(connection, source):
        # The table's own are cloned onto its partitions.
        if each.state == "missing" and not (each.partition and each.event != "truncate"):
            await connection.execute(_made(each, source.schema).encode())
            touched[each.relation] = None
    for each in await found(connection, source):
        if each.state != "right":
            await connection.execute(_always(each).encode())
            touched[each.relation] = None
    return [*done, *(f"put the triggers on {relation}" for relation in touched)]


async def lock_first(connection: Connection, source: SourceTable) -> None:
    """Lock what `put_right` is to touch; nothing where all is right.

    A writer locks the table, then what its triggers write to. Whoever is to change both must do so in that order.
    """
    there = await found(connection, source)
    dropped = {each.relation for each in _misplaced(there)} | {
        each.relation for each in await astray(connection, source)
    }
    for relation in dict.fromkeys([*sorted(dropped), *(each.relation for each in there if each.state != "right")]):
        mode = "ACCESS EXCLUSIVE" if relation in dropped else "SHARE ROW EXCLUSIVE"
        await connection.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(sql.SQL(relation), sql.SQL(mode)))


async def statements(connection: Connection, source: SourceTable) -> list[str]:
    """Return the SQL that puts them on a table which has none."""
    wanted = await found(connection, source)
    made = [_made(each, source.schema) for each in wanted if not (each.partition and each.event != "truncate")]
    return [*made, *(_always(each) + ";" for each in wanted)]


def definitions(source: SourceTable) -> list[str]:
    """Return how they are made on the table itself."""
    table = source.fragments["table"]
    return [sql_files.filled(f"capture/creditsd_{event}", source.schema, table=table) for event in EVENTS]


async def _drop_astray(connection: Connection, source: SourceTable) -> list[str]:
    done = []
    for relation, renamed, names in await astray(connection, source):
        for name in names:
            await connection.execute(sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(name), sql.SQL(relation)))
        if renamed:
            done.append(f"took the triggers of another name off {relation}")
        else:
            done.append(f"took the triggers off {relation}, which is not {source.settings.table}")
    return done


def _check_names(triggers: Iterable[Trigger]) -> None:
    for each in triggers:
        if each.state == "taken":
            raise SchemaError(
                f"{each.relation} has a trigger {each.name} that is not creditsd's: give it another name (ALTER "
                f"TRIGGER {each.name} ON {each.relation} RENAME TO ...), or set schema (CREDITSD_SCHEMA) to another"
            )


def _misplaced(triggers: Sequence[Trigger]) -> Iterable[Trigger]:
    """Yield what must go before it can be made anew; what PostgreSQL has cloned goes with what it was cloned from."""
    unclonable = {each.event for each in triggers if each.partition and each.state == "missing"} - {"truncate"}
    for each in triggers:
        root = not each.partition and each.state != "missing"
        if not each.cloned and (each.state == "another" or (root and each.event in unclonable)):
            yield each


def _made(trigger: Trigger, schema: str) -> str:
    return sql_files.filled(f"capture/creditsd_{trigger.event}", schema, table=sql.SQL(trigger.relation))


def _always(trigger: Trigger) -> str:
    """Return what makes a trigger fire under session_replication_role = replica too."""
    return f"ALTER TABLE ONLY {trigger.relation} ENABLE ALWAYS TRIGGER {trigger.name}"


def _relation_and_state(trigger: Trigger) -> tuple[str, str]:
    return trigger.relation, trigger.state


def _of(source: SourceTable) -> dict[str, int]:
    return {"relation": source.oid}
