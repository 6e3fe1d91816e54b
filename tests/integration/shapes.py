"""The table as the tests shape it: names, types and words of its own, one database a shape."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection, sql

from creditsd.admin.inspect import Inspector
from creditsd.config.settings import Settings
from creditsd.domain.total import Total
from tests.conftest import Database
from tests.integration.line import Line, installed, user
from tests.servers import Reachable

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "cases" / "totals.json").read_text())["cases"]

_numbers = itertools.count(1)


# The statuses of the cases where the column holds no text. A switch has only two: whatever is not active is off.
_WORDS: Mapping[str, Mapping[str, str]] = {
    "boolean": {"active": "true", "expired": "false", "cancelled": "false", "frozen": "false"},
    "smallint": {"active": "1", "expired": "-2", "cancelled": "30", "frozen": "32767"},
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The types a table may have."""

    user_id: str = "uuid"
    credits: str = "integer"
    status: str = "text"

    def __str__(self) -> str:
        return f"{self.user_id}-{self.credits}-{self.status}"

    def word(self, status: str | None) -> str | None:
        """How the column holds a status of the cases."""
        return None if status is None else _WORDS.get(self.status, {}).get(status, status)

    @property
    def source(self) -> Mapping[str, Any]:
        """The settings by which such a table is read."""
        if self.status not in _WORDS:
            return {}
        return {"active_statuses": [self.word("active")], "expired_status": self.word("expired")}

    def new_user(self) -> str:
        number = next(_numbers)
        return {"uuid": user(number), "bigint": str(number)}.get(self.user_id, f"Ünal's “{number}”")


REFERENCE = Shape()
_STATUSES = (
    ("uuid", "varchar(20)"),
    ("text", "public.standing"),
    ("bigint", "public.word"),
    ("uuid", "boolean"),
    ("text", "smallint"),
)
SHAPES = [
    Shape(user_id, credits_, status) for user_id, status in _STATUSES for credits_ in ("integer", "bigint", "numeric")
]
ODD_TABLE = '"My ""Shop""" . "User\'s Credits %s {x}"'


@dataclass(frozen=True, slots=True)
class Installed:
    """A database that many tests share, each with users of its own."""

    database: Database
    settings: Settings
    shape: Shape


class Shapes:
    """One database a version, whose table is made anew for each shape in turn: that is quicker than a new database."""

    def __init__(self, server: Reachable) -> None:
        name = f"totals_{os.getpid()}_{server.version}"
        self._database = Database(server, name, server.create_database(name))
        self._made: Installed | None = None

    async def get(self, shape: Shape) -> Installed:
        if self._made is None or self._made.shape != shape:
            database = self._database
            database.run("DROP SCHEMA IF EXISTS creditsd CASCADE; DROP TABLE IF EXISTS public.user_credits")
            database.run("DROP TYPE IF EXISTS public.standing; DROP DOMAIN IF EXISTS public.word")
            database.run("CREATE TYPE public.standing AS ENUM ('active', 'expired', 'cancelled', 'frozen')")
            database.run("CREATE DOMAIN public.word AS varchar(20) CHECK (VALUE <> '')")
            database.run(
                f"CREATE TABLE public.user_credits (id serial PRIMARY KEY, user_id {shape.user_id}, "
                f"credits {shape.credits}, status {shape.status}, plan_type text, membership text, "
                "subscription_id text, expires_at timestamptz, created_at timestamptz DEFAULT now())"
            )
            database.run("CREATE INDEX ON public.user_credits (user_id)")
            self._made = Installed(database, await installed(database, source=shape.source), shape)
        return self._made

    def close(self) -> None:
        self._database.server.drop_database(self._database.name)


async def put(
    connection: AsyncConnection[tuple[Any, ...]],
    user_id: str | None,
    row: Mapping[str, Any],
    *,
    shape: Shape = REFERENCE,
) -> int:
    """Insert a row as the golden cases write it; return its id."""
    statement = sql.SQL(
        "INSERT INTO public.user_credits (user_id, credits, status, plan_type, membership, subscription_id, "
        "expires_at, created_at) VALUES (%(user)s::text::{type}, %(credits)s, %(status)s::text::{status}, "
        "%(plan_type)s, %(membership)s, %(subscription_id)s, now() + %(ends)s, now() - %(age)s) RETURNING id"
    ).format(type=sql.SQL(shape.user_id), status=sql.SQL(shape.status))
    ends = row.get("expires_in_seconds")
    values = {
        "credits": 10,
        "plan_type": "one_time",
        "membership": None,
        "subscription_id": None,
        **row,
        "status": shape.word(row.get("status", "active")),
        "user": user_id,
        "ends": None if ends is None else timedelta(seconds=ends),
        "age": timedelta(seconds=row.get("created_seconds_ago", 0)),
    }
    found = await (await connection.execute(statement, values)).fetchone()
    assert found is not None
    return int(found[0])


def skip_without_icu(database: Database) -> None:
    if not database.run("SELECT FROM pg_collation WHERE collname = 'en-x-icu'"):
        pytest.skip("this server was built without ICU")


def matches(total: Total, expected: Mapping[str, Any], began: datetime) -> None:
    document = json.loads(total.json())
    for key in expected.keys() - {"expires_in_seconds"}:
        assert document[key] == expected[key], key
    ends = expected["expires_in_seconds"]
    if ends is None:
        assert total.expires_at is None
    else:
        assert total.expires_at is not None
        assert abs(total.expires_at - (began + timedelta(seconds=ends))) < timedelta(seconds=30)


async def hold(installation: Installed, cases: Sequence[Mapping[str, Any]]) -> None:
    """Give each case a user, and see that `get`, the daemon and the rows' own statuses agree with it."""
    database, settings, shape = installation.database, installation.settings, installation.shape
    users = {shape.new_user(): case for case in cases}
    async with database.connect() as application, Inspector.opened(settings, purpose="test") as inspector:
        (began,) = (await (await application.execute("SELECT now()")).fetchone()) or ()
        ids = {
            name: [await put(application, name, row, shape=shape) for row in case["rows"]]
            for name, case in users.items()
        }
        for name, case in users.items():
            matches(await inspector.total(name), case["expect"], began)
        async with Line.opened(settings) as line:
            published = {total.user_id: total for total in await line.settle()}
        for name, case in users.items():
            matches(await inspector.total(name), case["expect"], began)
            stored = await inspector.stored(name)
            assert (name in published) == (stored is not None) == bool(case["rows"])
            if stored is not None:
                matches(stored, case["expect"], began)
                assert stored == published[name]
            query = "SELECT status::text FROM public.user_credits WHERE id = ANY (%s) ORDER BY id"
            after = await (await application.execute(query, [ids[name]])).fetchall()
            assert [status for (status,) in after] == [shape.word(each) for each in case["expect_status_after"]]
