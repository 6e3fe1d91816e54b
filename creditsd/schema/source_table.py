"""The application's table as the catalog shows it, and how its columns read in our words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NoReturn

from psycopg import sql

from creditsd.config.settings import Settings
from creditsd.config.source_settings import SourceSettings
from creditsd.domain.errors import ConfigError, SchemaError
from creditsd.domain.user_id import LONGEST_BYTES
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row, rows
from creditsd.schema import published_text
from creditsd.schema.row_condition import RowCondition
from creditsd.schema.status_words import StatusWords

MIN_SERVER_VERSION = 140000

_USER_ID_TYPES = {"uuid", "text", "varchar", "bpchar", "int2", "int4", "int8"}
_TEXT_TYPES = {"text", "varchar", "bpchar"}
_WHOLE_TYPES = {"int2", "int4", "int8"}
# What costs next to nothing to write out as text, so that it reads the same whichever of them it is.
_QUICK_TYPES = {*_TEXT_TYPES, *_WHOLE_TYPES, "citext", "uuid"}
_TIME_TYPES = {"timestamptz", "timestamp", "date"}
_RELATIONS: Mapping[str, str] = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "i": "an index",
    "I": "an index",
    "c": "a composite type",
    "t": "a TOAST table",
}

_VIRTUAL = "v"

Fragment = sql.Composable


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of the application's table; its type is the one beneath any domain, `base` that one's bare name.

    `declared` is that type with its length or precision.
    """

    name: str
    type: str
    base: str
    collation: str | None
    deterministic: bool
    labels: list[str] | None
    generated: str
    declared: str


@dataclass(frozen=True)
class SourceTable:
    """The application's table: what it is, and the SQL fragments its columns become.

    `schema` is that of the installation it is read for. `condition` is `source.where` once it is read; before that, the
    fragments say it as it was written.
    """

    settings: SourceSettings
    schema: str
    oid: int
    owner: str
    may_install: bool
    indexed: bool
    columns: Mapping[str, TableColumn]
    encoded: bool = True
    """Whether the database sees to it that text is text: one in SQL_ASCII takes any bytes."""
    condition: RowCondition | None = None
    never_active: Sequence[str] = ()
    """Of each word that no row's status can be, though others of `active_statuses` can: which, and why."""

    @classmethod
    async def inspect(cls, connection: Connection, settings: Settings) -> SourceTable:
        """Look the table up and check everything we rely on; needs no right on the table.

        Raises SchemaError for what the database lacks or contradicts, ConfigError for a server we cannot work on.
        """
        source = settings.source
        schema, table = source.relation
        found = await row(
            connection,
            sql_files.sql("queries/relation"),
            {"schema": schema, "table": table, "user_id": source.columns.user_id},
        )
        if found is None:
            await _no_such_table(connection, schema, table)
        oid, relkind, hidden, owner, may_install, standby, server_version, indexed = found
        _check_server(server_version, standby=standby)
        if relkind not in ("r", "p"):
            kind = _RELATIONS.get(relkind, "not a table")
            raise SchemaError(f"{source.table} is {kind}: set source.table to the table that is written to")
        if hidden:
            raise SchemaError(
                f"row level security of {source.table} is forced on its owner {owner} and would hide rows from us: "
                f"ALTER TABLE {source.table} NO FORCE ROW LEVEL SECURITY, or give {owner} BYPASSRLS"
            )
        described = await rows(connection, sql_files.sql("queries/columns"), {"relation": oid})
        made = cls(
            settings=source,
            schema=settings.schema,
            oid=oid,
            owner=owner,
            may_install=may_install,
            indexed=indexed,
            columns={each[0]: TableColumn(*each) for each in described},
            encoded=connection.info.parameter_status("server_encoding") != "SQL_ASCII",
        )
        made.check()
        made = replace(made, never_active=await made._check_statuses(connection, settings.expire_empty))
        if made.zoneless and not await row(connection, sql_files.sql("queries/timezone"), {"name": source.timezone}):
            raise SchemaError(f"PostgreSQL knows no time zone {source.timezone!r}: set source.timezone")
        return made

    def check(self) -> None:
        """Raise SchemaError for a column that is missing or of a type we cannot read."""
        for key, name in self.settings.columns.model_dump().items():
            if name and name not in self.columns:
                if key in _OPTIONAL and name == key:
                    continue  # not set by anyone: such a table simply has none
                self._no_such_column(key, name)
        self._check_user_id()
        amount = self._required("credits")
        if amount.base not in {*_WHOLE_TYPES, "numeric"}:
            raise self._wrong_type(amount, "integer, bigint or numeric")
        for key in _TIMES:
            column = self.column(key)
            if column is not None and column.base not in _TIME_TYPES:
                raise self._wrong_type(column, f'timestamp with time zone, or source.columns.{key} = "" to do without')

    async def with_condition(self, connection: Connection, schema: str = "") -> SourceTable:
        """Return it with `source.where` as PostgreSQL reads it, in a schema where we may create, ours if none is named.

        Raises ConfigError.
        """
        if not self.settings.where:
            return self
        types = {name: column.type for name, column in self.columns.items()}
        condition = await RowCondition.read(connection, self.settings, types, schema=schema or self.schema)
        return replace(self, condition=condition)

    def column(self, key: str) -> TableColumn | None:
        """Return the column that plays a part in our words, or None where the table has none."""
        return self.columns.get(getattr(self.settings.columns, key))

    @property
    def user_id_type(self) -> tuple[str, str | None]:
        """Return the type of a user's id, and its collation where that is not the type's usual one."""
        column = self._required("user_id")
        return column.type, column.collation

    def filled(self, name: str, **others: Fragment) -> str:
        """Return the text of `sql/<name>.sql` as it reads for this table, but for some fragments."""
        return sql_files.filled(name, self.schema, **(self.fragments | others))

    @cached_property
    def fragments(self) -> dict[str, Fragment]:
        """Return what the templates of `sql/` name, by name."""
        words = self.settings
        mapping: dict[str, Fragment] = {
            "table": sql.Identifier(*words.relation),
            "owner": sql.Identifier(self.owner),
            "owner_literal": sql.Literal(self.owner),
            "schema_literal": sql.Literal(words.relation[0]),
            "name_literal": sql.Literal(words.relation[1]),
            "columns_literal": sql.Literal(_array(self._read())),
            "table_literal": sql.Literal(sql.Identifier(*words.relation).as_string(None)),
            "user_id": self._name("user_id"),
            "user_id_literal": sql.Literal(self._required("user_id").name),
            "user_id_type": sql.SQL(self._required("user_id").type),
            "longest_bytes": sql.Literal(LONGEST_BYTES),
            "user_id_collation": self._user_id_collation(),
            **self._fits(),
            "status": self._name("status"),
            "credits_value": sql.SQL("{}.amount(t.{})").format(sql.SQL(self.schema), self._name("credits")),
            "plan_type_value": self._text("plan_type"),
            "membership_value": self._text("membership"),
            "subscription_id_value": self._text("subscription_id"),
            "expires_at_value": self._time("expires_at"),
            "created_at_value": self._time("created_at"),
            **self._starts(),
            **self._matches(),
            "active_statuses": sql.Literal(_array(words.active_statuses)),
            "subscription_types": sql.Literal(_array(words.subscription_types)),
            "one_time_types": sql.Literal(_array(words.one_time_types)),
            "expired_status": sql.Literal(words.expired_status),
        }
        return mapping | {"source": sql.SQL(sql_files.subquery("source", self.schema, 16, **mapping))}

    def _read(self) -> list[str]:
        """Return the columns that totals are made of, each once; those that are not there yet as well."""
        mapped = [name for name in self.settings.columns.model_dump().values() if name]
        return list(dict.fromkeys([*mapped, *(self.condition.columns if self.condition is not None else ())]))

    def _starts(self) -> dict[str, Fragment]:
        """Return what says of a row when it begins; nothing more is computed where none begins later."""
        has_starts = self.column("starts_at") is not None
        changes_at = sql_files.subquery("time/starts_and_ends" if has_starts else "time/ends", self.schema, 12)
        return {
            "starts_at_value": self._time("starts_at", beyond="'infinity'::timestamptz"),
            "changes_at": sql.SQL(changes_at.strip()),
            "or_begins": sql.SQL(" OR line.starts_at > instant" if has_starts else ""),
            "and_begun": sql.SQL(" AND (rated.starts_at <= instant) IS NOT FALSE" if has_starts else ""),
        }

    def _matches(self) -> dict[str, Fragment]:
        """Return what says of a row whether `source.where` holds; nothing is computed where it is not set."""
        if not self.settings.where:
            without = {"and_matches": "", "and_asked_for_matches": "", "left_out": "false"}
            return {name: sql.SQL(text) for name, text in without.items()} | {"condition_literal": sql.Literal("")}
        expression = sql.SQL(self.settings.where if self.condition is None else self.condition.expression)
        return {
            "and_matches": sql.SQL(" AND ({})").format(expression),
            # Of whoever is not asked for, it may raise an error.
            "and_asked_for_matches": sql.SQL(" AND CASE WHEN t.{} = ANY (expire_empty.users) THEN ({}) END").format(
                self._name("user_id"), expression
            ),
            # Of a row that would not count anyway it is not asked: there, it may raise an error.
            "left_out": sql.SQL("CASE WHEN t.{}::text = ANY ({}::text[]) THEN ({}) IS NOT TRUE ELSE false END").format(
                self._name("status"),
                sql.Literal(_array([*self.settings.active_statuses, self.settings.expired_status])),
                expression,
            ),
            "condition_literal": sql.Literal(expression.as_string(None)),
        }

    def _fits(self) -> Mapping[str, Fragment]:
        """Return what keeps an id out that we could not keep, or tell anybody, so that the write passes."""
        column = self._required("user_id")
        if column.base not in _TEXT_TYPES:
            return published_text.KEPT_ANYWAY
        new, old = (
            # As text, in which the padding of a character(n) is no part of the id.
            sql.SQL("{}.{}::{}::text").format(sql.SQL(row), self._name("user_id"), sql.SQL(column.type))
            for row in ("NEW", "OLD")
        )
        return published_text.kept(new, old, encoded=self.encoded)

    def _required(self, key: str) -> TableColumn:
        column = self.column(key)
        assert column is not None
        return column

    def _name(self, key: str) -> Fragment:
        return sql.Identifier(self._required(key).name)

    def _user_id_collation(self) -> Fragment:
        """Return what our own columns say behind their type, so that they sort as the application's does."""
        collation = self._required("user_id").collation
        return sql.SQL(" COLLATE " + collation) if collation else sql.SQL("")

    def _text(self, key: str) -> Fragment:
        column = self.column(key)
        if column is None:
            return sql.SQL("NULL::text")
        value: Fragment = sql.SQL("t.{}::text").format(sql.Identifier(column.name))
        if key not in _PUBLISHED:
            return value
        # Every total carries it, to every sink: one user's must not weigh on all others.
        if column.base in _QUICK_TYPES or column.labels is not None:
            return published_text.shortened(value, encoded=self.encoded)
        # Whatever it is, it may be long, and dear to write out: that is done once.
        return sql.SQL("(SELECT {} FROM (SELECT {} AS words OFFSET 0) AS written)").format(
            published_text.shortened(sql.SQL("written.words"), encoded=self.encoded), value
        )

    def _time(self, key: str, beyond: str = "NULL") -> Fragment:
        column = self.column(key)
        if column is None:
            return sql.SQL("NULL::timestamptz")
        value: Fragment = sql.SQL("t.{}").format(sql.Identifier(column.name))
        instant = _INSTANTS["day's end" if (key, column.base) == ("expires_at", "date") else column.base]
        # Beyond the years that clients can hold, nothing ever comes, and before them it always was. Compared as it is
        # written: PostgreSQL's dates reach further than its instants.
        return sql.SQL(
            "CASE WHEN {value} >= '9999-12-31 00:00:00+00'::{type} THEN {beyond} "
            "WHEN {value} < '0001-01-03 00:00:00+00'::{type} THEN '0001-01-02 00:00:00+00'::timestamptz "
            "ELSE {instant} END"
        ).format(
            value=value,
            type=sql.SQL(column.base),
            beyond=sql.SQL(beyond),
            instant=sql.SQL(instant).format(value, sql.Literal(self.settings.timezone)),
        )

    @property
    def zoneless(self) -> list[str]:
        """The columns of times that say no time zone."""
        found = (self.column(key) for key in _TIMES)
        return [column.name for column in found if column is not None and column.base != "timestamptz"]

    def _check_user_id(self) -> None:
        user_id = self._required("user_id")
        if user_id.base not in _USER_ID_TYPES:
            raise self._wrong_type(user_id, "uuid, text or bigint")
        if not user_id.deterministic:
            raise SchemaError(
                f"column {user_id.name} of {self.settings.table} has the collation {user_id.collation}, to which "
                "different texts are equal: creditsd needs a deterministic one"
            )
        if user_id.generated == _VIRTUAL:
            raise SchemaError(
                f"column {user_id.name} of {self.settings.table} is generated and VIRTUAL, which is null in a trigger: "
                "make it STORED"
            )

    async def _check_statuses(self, connection: Connection, expire_empty: str) -> list[str]:
        """Return what is to be said of words that no status can be. Raises SchemaError where no row could count."""
        status, words = self._required("status"), self.settings
        known = StatusWords(status.base, status.declared, status.labels)
        about = f"column {status.name} of {words.table}"
        never = [
            f"{about} has no value {word!r} ({why})"
            for word in words.active_statuses
            if (why := await known.refusal(connection, word))
        ]
        if len(never) == len(words.active_statuses):
            raise SchemaError(f"{never[0]}: set source.active_statuses to what it has")
        if expire_empty != "on":
            return never
        word, off = words.expired_status, 'set expire_empty = "off"'
        if status.generated:
            raise SchemaError(f"{about} is generated, so no empty plan can be set to {word!r}: {off}")
        if why := await known.refusal(connection, word):
            raise SchemaError(
                f"{about} has no value {word!r} ({why}): set source.expired_status to one of them, add it, or {off}"
            )
        return never

    def _no_such_column(self, key: str, name: str) -> NoReturn:
        near = difflib.get_close_matches(name, self.columns, n=1)
        hint = f"did you mean {near[0]!r}? " if near else f"it has {', '.join(self.columns)}. "
        none = " (an empty string where the table has none)" if key in _OPTIONAL else ""
        raise SchemaError(f"{self.settings.table} has no column {name!r}: {hint}Set source.columns.{key}{none}")

    def _wrong_type(self, column: TableColumn, wanted: str) -> SchemaError:
        return SchemaError(f"column {column.name} of {self.settings.table} is {column.type}: creditsd needs {wanted}")


# How a time of the table's becomes an instant; a date ends with its day.
_INSTANTS: Mapping[str, str] = {
    "timestamptz": "{0}::timestamptz",
    "timestamp": "({0}::timestamp AT TIME ZONE {1})",
    "date": "({0}::timestamp AT TIME ZONE {1})",
    "day's end": "(({0}::date + 1)::timestamp AT TIME ZONE {1})",
}

_PUBLISHED = ("membership", "subscription_id")

_TIMES = ("starts_at", "expires_at", "created_at")
_OPTIONAL = ("plan_type", "membership", "subscription_id", *_TIMES)


def _array(words: list[str]) -> str:
    """Write a text[] literal, so that the SQL reads the same whatever the driver would have cast it to."""
    quoted = ('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words)
    return "{" + ",".join(quoted) + "}"


def _check_server(version: int, *, standby: bool) -> None:
    """Raise SchemaError for a server that is too old, ConfigError for one that cannot be written to."""
    if version < MIN_SERVER_VERSION:
        raise SchemaError(f"PostgreSQL {version // 10000} is too old: creditsd needs 14 or newer")
    if standby:
        raise ConfigError(
            "this server is a read-only replica: point CREDITSD_DSN at the primary "
            "(several hosts and target_session_attrs=read-write follow it)"
        )


async def _no_such_table(connection: Connection, schema: str, table: str) -> NoReturn:
    there = [
        f"{namespace}.{name}" for namespace, name in await rows(connection, sql_files.sql("queries/relations_like"))
    ]
    near = difflib.get_close_matches(f"{schema}.{table}", there, n=1)
    hint = f"did you mean {near[0]}?" if near else "is this the right database?"
    raise SchemaError(f"there is no table {schema}.{table}: {hint} Set source.table (CREDITSD_SOURCE__TABLE)")
