"""The SQL of `sql/`, read by name, with its placeholders filled."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from psycopg import sql as fragments
from psycopg.abc import AdaptContext

from creditsd.config.types import DEFAULT_SCHEMA
from creditsd.domain.errors import CreditsdError
from creditsd.domain.total import Total
from creditsd.postgres.session import schema_of

_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")

# `{name}` is a placeholder, `{{` and `}}` are braces; a brace by itself, as in '{}', is one too.
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([a-z_]+)\}")

_DOLLAR_TAGS = ("function", "do")  # that quote a body, as in `AS $function$`

# Where the SQL says `creditsd` and means the installation, which another one puts its own name in for: before a dot, as
# a name by itself, in its triggers, its channels, and the names of its sessions. Everywhere else it is the command, or
# the prefix of a setting of ours (`creditsd.careful`, `creditsd.marked_…`), which an extension could have reserved of
# another name.
_OURS = re.compile(
    r"""
    \bcreditsd_(?P<event>insert|update|delete|truncate)\b
    | \bcreditsd(?=\.(?!careful\b|marked_)[a-z_%'])
    | \bcreditsd(?=_lead\b)
    | (?<=')creditsd(?='|\ (?:install|leader|doorbell|sleep|publisher|reader|operator)?')
    | (?:(?<=SCHEMA\ )|(?<=schema\ )|(?<=NOTIFY\ ))creditsd\b
    """,
    re.VERBOSE,
)
_ABOUT_NONE = ("bench/", "demo/")

# Files that stand in others, by their names.
_STATEMENTS = ("leader_pid", "users_changed", "changes_unread")

# How the fields of a Total are read from a row called `total`, where it is not by their own names.
_READ_AS = {
    "user_id": "(total).user_id::text",
    "previous_record": "record_send((total).previous)",
    "happened": "(total).events::text",
    "level_json": (
        """CASE WHEN (total).low_credits IS NOT NULL THEN '{"level":' """
        """|| coalesce('"' || (total).level || '"', 'null') """
        """|| ',"low_credits":' || trim_scale((total).low_credits)::text || '}' END"""
    ),
}
_COLUMNS = ", ".join(f"{_READ_AS.get(field, f'(total).{field}')} AS {field}" for field in Total._fields)


class _Statement(fragments.Composable):
    """A statement of `sql/` by its name: it reads for the installation that the connection is of which runs it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._name = name

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """Return its text, with the schema of the connection that runs it."""
        return _encoded(self._name, schema_of(context.connection if context is not None else None))


Query = str | fragments.Composed


@cache
def sql(name: str) -> fragments.Composed:
    """Return `sql/<name>.sql`, e.g. `sql("queries/balances_after")`, of what needs nothing filled in, to be run.

    `{total_columns}` becomes the columns of a Total, in the order of its fields: of the row that is called `total`;
    `{leader_pid}` the query for the process of whoever leads.
    """
    filled(name, DEFAULT_SCHEMA)
    return fragments.Composed([_Statement(name)])


def filled(name: str, schema: str, **values: fragments.Composable) -> str:
    """Return the text of `sql/<name>.sql` for one installation, with a value for each of its placeholders."""
    return _filled(name, _named(name, schema), schema, values)


def subquery(name: str, schema: str, indent: int, **values: fragments.Composable) -> str:
    """Return the statement of `sql/<name>.sql` the same way, so many spaces deep, to stand in brackets.

    Its own lines are indented, and none that a value has: a name or a literal may hold line breaks.
    """
    return _filled(name, textwrap.indent(statement(_named(name, schema)), " " * indent), schema, values)


def _filled(name: str, text: str, schema: str, values: Mapping[str, fragments.Composable]) -> str:
    def written(key: str) -> str:
        if key in values:
            return values[key].as_string(None)
        if key == "total_columns":
            return _COLUMNS
        if key in _STATEMENTS:
            return statement(_named(key, schema))
        raise CreditsdError(f"nothing to put at {{{key}}} of {name}.sql")

    texts = {key: written(key) for key in {found[1] for found in _PLACEHOLDER.finditer(text)} - {None}}

    def fill(found: re.Match[str]) -> str:
        return found[0][0] if found[1] is None else texts[found[1]]

    return _PLACEHOLDER.sub(fill, _quoted_apart(text, texts))


def _quoted_apart(text: str, values: Mapping[str, str]) -> str:
    """Have no dollar quote end at what a value holds: a column may be called `$function$`."""
    for tag in _DOLLAR_TAGS:
        free, number = tag, 0
        while any(f"${free}$" in value for value in values.values()):
            number += 1
            free = f"{tag}_{number}"
        text = text.replace(f"${tag}$", f"${free}$")
    return text


def trigger_name(event: str, schema: str) -> str:
    """Return what an installation calls its trigger of an event: one table may carry those of several."""
    return f"creditsd_{event}" if schema == DEFAULT_SCHEMA else f"{event}_creditsd_{schema}"


def statement(text: str) -> str:
    """Return a statement without the comment at its head, to stand in brackets."""
    lines = text.strip().splitlines()
    first = next(number for number, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(lines[first:])


def migrations() -> list[tuple[int, str]]:
    """Return every migration as (number, its name for `filled`), in the order they apply.

    Two of one number, or a file that is not called NNNN_name.sql, is a bug of ours and raises.
    """
    found: dict[int, str] = {}
    for path in sorted((_folder() / "migrations").glob("*.sql")):
        match = _MIGRATION.fullmatch(path.name)
        if match is None:
            raise CreditsdError(f"a migration is called NNNN_name.sql, not {path.name}")
        number = int(match[1])
        if number in found:
            raise CreditsdError(f"two migrations have the number {match[1]}: {found[number]} and {path.stem}")
        found[number] = f"migrations/{path.stem}"
    return list(found.items())


def keep_all() -> int:
    """Read every file once and for all, so that an upgrade may replace them under this process; return how many."""
    names = [str(path.relative_to(_folder()).with_suffix("")) for path in sorted(_folder().rglob("*.sql"))]
    return len([_text(name) for name in names])


@cache
def _encoded(name: str, schema: str) -> bytes:
    return filled(name, schema).encode()


@cache
def _named(name: str, schema: str) -> str:
    """Return the text of a file as it reads for one installation."""
    text = _text(name)
    if schema == DEFAULT_SCHEMA or name.startswith(_ABOUT_NONE):
        return text

    def put(found: re.Match[str]) -> str:
        return trigger_name(found["event"], schema) if found["event"] else schema

    return _OURS.sub(put, text)


@cache
def _text(name: str) -> str:
    path = _folder() / f"{name}.sql"
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CreditsdError(f"no SQL of that name: {path}") from None


@cache
def _folder() -> Path:
    """Find `sql/`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "sql", package.parent / "sql"):
        if folder.is_dir():
            return folder
    raise CreditsdError(f"no sql files, neither in {package} nor beside it: install creditsd again")
