"""Names as PostgreSQL allows them, of the schema, the table and every column: from install to uninstall."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from creditsd.admin.inspect import Inspector
from creditsd.schema import install as schema
from tests.conftest import SERVERS, Database
from tests.integration.line import Line, installed

COLUMNS = {
    "user_id": "text", "credits": "numeric", "status": "text", "plan_type": "text", "membership": "text",
    "subscription_id": "text", "expires_at": "timestamptz", "created_at": "timestamptz", "starts_at": "timestamptz",
}  # fmt: skip
LONGEST_BYTES = 63
NOT_FREE = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}  # what every table has
WORDS = [
    *COLUMNS, "select", "user", "table", "new", "NEW", "users", "instant", "line", "rated", "asked", "wanted", "first",
    "counts", "tg_op", "creditsd", "{source}", "{", "}}", "%s", "%(user_id)s", "%", "$1", "$$", "$function$", "$do$",
    "$function_1$", " ", "\n", "\r\n", "\t", "\x1c", "\u2028", "'", '"', "\\", "--", "/*", "*/", ";", "\u202e", "é",
]  # fmt: skip
EXAMPLES = settings().max_examples // 20  # each installs anew
RANDOM = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


def cut(name: str) -> str:
    return name.encode()[:LONGEST_BYTES].decode(errors="ignore")


NAMES = (
    st.lists(st.sampled_from(WORDS) | RANDOM, min_size=1, max_size=4)
    .flatmap(lambda parts: st.sampled_from(["".join(parts), "".join(parts) * LONGEST_BYTES]))
    .map(cut)
    .filter(lambda name: name not in NOT_FREE)
)
BREAKS = [
    "user\n id",
    "credits\r\n",
    "\x0bstatus",
    "plan\x0c",
    "\x1c",
    "sub\x85 id",
    "\u2028",
    "\u2029",
    "starts\n\n at",
]
DOLLARS = ["$function$", "$do$", "$function_1$", "$$", "$1", "$creditsd$", "a$function$b", "$", "$do_1$"]
OTHERS = ["credits", "user_id", "plan_type", "status", "subscription_id", "membership", "created_at", "x", "expires_at"]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("postgres_server", SERVERS[:1], indirect=True)
@settings(
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example leaves the database as it was
)
@given(NAMES, NAMES, st.lists(NAMES, min_size=len(COLUMNS), max_size=len(COLUMNS), unique=True))
@example("of\nthe shop", "credits\n\nof users", BREAKS)
@example("$function$", "$do$", DOLLARS)
@example("s", "user_id", OTHERS)
async def test_whatever_they_are_called_totals_are_right(
    database: Database, space: str, table: str, columns: Sequence[str]
) -> None:
    assume(not space.startswith("pg_") and space not in ("public", "creditsd", "information_schema"))
    relation = sql.Identifier(space, table)
    listed = [
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
        for name, kind in zip(columns, COLUMNS.values(), strict=True)
    ]
    names = dict(zip(COLUMNS, columns, strict=True))
    user_id, credits_ = sql.Identifier(names["user_id"]), sql.Identifier(names["credits"])
    with psycopg.connect(database.dsn, autocommit=True) as application:

        def put(*values: object) -> None:
            into = sql.SQL(", ").join(map(sql.Identifier, columns[:4]))
            given_ = sql.SQL(", ").join(map(sql.Literal, values))
            application.execute(sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(relation, into, given_))

        application.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(space)))
        application.execute(sql.SQL("CREATE TABLE {} ({})").format(relation, sql.SQL(", ").join(listed)))
        try:
            made = await installed(
                database, source={"table": f"{quoted(space)}.{quoted(table)}", "columns": names}, history={"days": 1}
            )
            async with Line.settled(made) as line:
                put("a", 5, "active", "subscription")
                put("a", 2, "active", "one_time")
                put("b", 0, "active", "one_time")
                assert await told(line) == {"a": (7, "active", "subscription"), "b": (0, "expired", "none")}
                application.execute(sql.SQL("UPDATE {} SET {} = 'c' WHERE {} = 5").format(relation, user_id, credits_))
                assert await told(line) == {"a": (2, "active", "one_time"), "c": (5, "active", "subscription")}
                application.execute(sql.SQL("DELETE FROM {} WHERE {} = 'c'").format(relation, user_id))
                assert await told(line) == {"c": (0, "none", "none")}
            async with Inspector.opened(made, purpose="test") as inspector:
                assert (await inspector.total("a")).credits == 2
                assert [each.counts for each in (await inspector.explain("b")).rows] == [False]
            assert (await schema.install(made)).done == []
            await schema.uninstall(made)
            put("z", 1, "active", "subscription")
            assert database.run("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [(0,)]
            database.run(await schema.script(made))
            assert database.run("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") > [(0,)]
        finally:
            application.execute("DROP SCHEMA IF EXISTS creditsd CASCADE")
            application.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(space)))


async def told(line: Line) -> dict[str, tuple[object, ...]]:
    return {each.user_id: (each.credits, each.membership_status, each.plan_type) for each in await line.settle()}


async def test_words_and_a_condition_with_line_breaks_are_read_as_they_are_written(reference_table: Database) -> None:
    words = {"active_statuses": ["ac\n tive"], "where": "membership <> 'P\nro' AND membership <> '$1'"}
    async with Line.settled(await installed(reference_table, source=words)) as line:
        for amount, status, membership in ((1, "ac\n tive", "x"), (2, "ac\n tive", "P\nro"), (4, "ac\ntive", "x")):
            reference_table.run(
                "INSERT INTO user_credits (user_id, credits, status, membership) VALUES "
                "('00000000-0000-0000-0000-000000000001', %s, %s, %s)",
                [amount, status, membership],
            )
        (total,) = await line.settle()
        assert total.credits == 1
