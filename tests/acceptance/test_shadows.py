"""Whoever may create in `public` puts a function there for each of PostgreSQL's that we call: none of them runs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.command import COMMAND, running
from tests.acceptance.conftest import ONE, TWO, Operator
from tests.conftest import PATIENCE_SECONDS, eventually
from tests.pgbouncer import PgBouncer

SQL = Path(__file__).parents[2] / "sql"

# A call picks what fits its arguments best, from whatever schema of the path: so a shadow needs a plain type where
# PostgreSQL's own function takes any.
POLYMORPHIC = """
SELECT DISTINCT p.proname, array_length(p.proargtypes::oid[], 1)
FROM pg_proc AS p
WHERE p.pronamespace = 'pg_catalog'::regnamespace
AND p.proname = ANY (%s)
AND EXISTS (
    SELECT FROM unnest(p.proargtypes::oid[]) AS a
    JOIN pg_type AS t ON t.oid = a
    WHERE t.typtype = 'p'
)
"""
TYPES = (
    "text", "uuid", "bigint", "integer", "boolean", "name", "oid", "jsonb", "timestamptz", "numeric",
    "text[]", "uuid[]", "bigint[]", "name[]",
)  # fmt: skip
OPERATORS = ("=", "<>", "<", ">", "||", "~")

CAUGHT = """
CREATE TABLE public.caught (what text);
GRANT ALL ON public.caught TO PUBLIC;
"""
SHADOW = """
CREATE OR REPLACE FUNCTION public.{name}({arguments})
RETURNS {returns} LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO public.caught VALUES ('{name}({arguments}) as ' || current_user);
    RETURN NULL;
END $$;
"""
OPERATOR = """
CREATE FUNCTION public.{name}({left}, {right}) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO public.caught VALUES ('{operator}({left}, {right}) as ' || current_user);
    RETURN true;
END $$;
CREATE OPERATOR public.{operator} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = public.{name});
"""


THINGS_TO_DO = f"""
UPDATE creditsd.balances SET credits = 1000;
INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, last_error)
VALUES ('stdout', '{ONE}', 1, 9, 'not today'), ('stdout', '{TWO}', 1, 9, 'not today');
INSERT INTO creditsd.sinks (name) VALUES ('former')
"""

COMMANDS = (
    ("status", "--json"),
    ("backfill",),
    ("get", ONE),
    ("explain", ONE, "--json"),
    ("verify",),
    ("verify", "--repair"),
    ("history", ONE),
    ("deliveries", "list"),
    ("deliveries", "show", "stdout", ONE),
    ("deliveries", "retry", "stdout", ONE),
    ("deliveries", "retry", "stdout", "--all"),
    ("deliveries", "drop", "stdout", ONE),
    ("deliveries", "drop", "stdout", "--all"),
    ("sinks", "list"),
    ("sinks", "pause", "stdout"),
    ("sinks", "resume", "stdout"),
    ("sinks", "enable", "stdout"),
    ("sinks", "test", "stdout"),
    ("sinks", "replay", "stdout", ONE),
    ("sinks", "replay", "stdout"),
    ("sinks", "remove", "former", "--yes"),
    ("backfill", "--republish"),
    ("install", "--print"),
    ("bench", "--seconds", "1", "--clients", "1"),
    ("forget", ONE),
    ("uninstall",),
)
# Sessions that are lent keep no path of ours: each transaction says its own, and one place does that for all of them.
BY_WHAT_IS_LENT = (
    ("backfill",),
    ("status", "--json"),
    ("explain", ONE, "--json"),
    ("verify", "--repair"),
    ("deliveries", "retry", "stdout", "--all"),
    ("sinks", "replay", "stdout"),
)


def called() -> list[str]:
    """Every name in our SQL and in our Python's that is followed by a bracket."""
    text = "\n".join(path.read_text() for path in SQL.rglob("*.sql"))
    text += "\n".join(path.read_text() for path in (SQL.parent / "creditsd").rglob("*.py"))
    return sorted(set(re.findall(r"\b([a-z_0-9]+)\(", text)))


def shadowing(operator: Operator) -> int:
    """Put the shadows there, and return how many."""
    database, count = operator.database, 0
    database.run(CAUGHT)
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        found = connection.execute(POLYMORPHIC, [called()]).fetchall()
        for name, arguments in found:
            for kind in TYPES:
                returns = kind.removesuffix("[]") if name == "unnest" else kind
                taken = ", ".join([kind] * (arguments or 1))
                connection.execute(SHADOW.format(name=name, arguments=taken, returns=returns).encode())
                count += 1
        for number, sign in enumerate(OPERATORS):
            for other, (left, right) in enumerate((("text", "name"), ("uuid", "text"), ("uuid[]", "uuid[]"))):
                name = f"shadow_{number}_{other}"
                connection.execute(OPERATOR.format(name=name, operator=sign, left=left, right=right).encode())
    return count


@pytest.fixture(params=["direct", "through a pooler"])
def watched(
    operator: Operator, request: pytest.FixtureRequest, pgbouncer: Callable[..., PgBouncer]
) -> Iterator[Operator]:
    """A superuser with a shell, and somebody else's functions in `public`."""
    if request.param != "direct":
        lent = {"CREDITSD_DSN": pgbouncer(operator.database).dsn, "CREDITSD_LISTEN_DSN": operator.database.dsn}
        operator.env.update(lent)
    assert shadowing(operator) > 50
    yield operator
    assert operator.database.run("SELECT DISTINCT what FROM public.caught") == []


async def test_the_shadows_would_be_taken_with_the_usual_path(operator: Operator) -> None:
    shadowing(operator)
    with psycopg.connect(operator.database.dsn, autocommit=True) as connection:
        connection.execute("SELECT public.caught.what, array_agg('x'::text) FROM public.caught GROUP BY 1")
        connection.execute("SELECT cardinality(ARRAY['x'::text])")
        connection.execute("SELECT unnest(ARRAY['x'::text])")
    taken = {str(what) for (what,) in operator.database.run("SELECT what FROM public.caught")}
    assert {what.split("(")[0] for what in taken} == {"cardinality", "unnest"}


async def test_no_command_of_a_superusers_runs_a_function_of_somebody_elses(watched: Operator) -> None:
    await watched.install()
    for command in COMMANDS if "CREDITSD_LISTEN_DSN" not in watched.env else BY_WHAT_IS_LENT:
        if "--repair" in command:  # and from here on there is something to be done
            watched.database.run(THINGS_TO_DO)
        done = await watched.creditsd(*command, CREDITSD_SINKS="stdout:")
        assert done.code == 0, (command, done)
        assert watched.database.run("SELECT what FROM public.caught") == [], command


async def test_a_daemon_of_a_superusers_runs_no_function_of_somebody_elses(watched: Operator, tmp_path: Path) -> None:
    await watched.install()
    env = watched.env | {"CREDITSD_SINKS": "stdout:", "CREDITSD_HISTORY__DAYS": "1"}
    async with running(tmp_path, env=env) as daemon:
        await daemon.until_ready()
        watched.database.run("UPDATE public.user_credits SET credits = 0 WHERE credits = 20")

        async def expired() -> list[tuple[object, ...]]:
            return watched.database.run("SELECT FROM public.user_credits WHERE credits = 0 AND status = 'expired'")

        await eventually(expired)
        watching = await asyncio.create_subprocess_exec(
            COMMAND, "watch", ONE, env=watched.env, stdout=asyncio.subprocess.PIPE
        )
        assert watching.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                first = json.loads(await watching.stdout.readline())
                watched.database.run("UPDATE public.user_credits SET credits = credits + 1 WHERE credits = 100")
                second = json.loads(await watching.stdout.readline())
        finally:
            watching.terminate()
            await watching.wait()
        assert [each["user_id"] for each in (first, second)] == [ONE, ONE]
        for command in (("backfill",), ("backfill", "--republish"), ("verify", "--repair"), ("status",)):
            done = await watched.creditsd(*command)
            assert done.code == 0, (command, done)
        assert await daemon.end() == 0
