"""The SQL of docs/supabase.md, run as it stands there, with roles of the test's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psycopg
import pytest

from creditsd.domain.errors import SchemaError
from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import OTHER, USER, Line, as_role, installed
from tests.sinks.realtime import SCHEMA

PAGE = (Path(__file__).parents[2] / "docs" / "supabase.md").read_text(encoding="utf-8")


def block(name: str, **roles: str) -> str:
    found = re.search(rf"<!-- run: {name} -->\n```sql\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, f"docs/supabase.md has no block called {name}"
    text = found[1]
    for named, role in roles.items():
        assert named in text
        text = text.replace(named, role)
    return text


@pytest.fixture
def project(reference_table: Database) -> Database:
    reference_table.run(SCHEMA)
    return reference_table


async def test_a_user_may_listen_to_their_own_topic_and_to_no_other(project: Database, role: str) -> None:
    """As Realtime asks: a message is there, and whoever wants to listen tries to read it."""
    settings = await installed(project, reader=role)
    project.run(f"GRANT USAGE ON SCHEMA realtime TO {role}; GRANT SELECT ON realtime.messages TO {role}")
    project.run(block("policy", authenticated=role))
    project.run("SELECT realtime.send('{}', 'credits.updated', 'credits:' || %s)", [USER])
    async with project.connect() as connection:
        await connection.execute(f"SET ROLE {role}".encode())

        async def may_listen(user: str | None, topic: str) -> bool:
            claims = json.dumps({"sub": user, "role": "authenticated"})
            await connection.execute(
                "SELECT set_config('request.jwt.claims', %s, false), set_config('realtime.topic', %s, false)",
                [claims, topic],
            )
            cursor = await connection.execute("SELECT FROM realtime.messages WHERE extension = 'broadcast'")
            return bool(await cursor.fetchall())

        assert await may_listen(USER, f"credits:{USER}")
        for user, topic in (
            (OTHER, f"credits:{USER}"),
            (None, f"credits:{USER}"),
            (None, "credits:"),
            (USER, f"credits:{OTHER}"),
            (USER, "credits:"),
            (USER, USER),
            (USER, ""),
        ):
            assert not await may_listen(user, topic), (user, topic)
    with pytest.raises(SchemaError, match="credits_own_topic"):
        await schema.uninstall(settings)
    project.run("DROP POLICY credits_own_topic ON realtime.messages")
    assert (await schema.uninstall(settings)).done


async def test_a_role_that_only_sends_needs_no_more_than_the_page_grants(project: Database, role: str) -> None:
    granted = block("sender", creditsd_sender=role).split(";", 1)[1]  # the role is there
    project.run(granted)
    theirs = as_role(project, role)
    theirs.run("SELECT realtime.send('{}', 'credits.updated', 'credits:u1', true)")
    theirs.run("SELECT realtime.send('{}', 'credits.updated', 'somebody else''s', true)")
    assert project.run("SELECT topic FROM realtime.messages") == [("credits:u1",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        theirs.run("SELECT FROM realtime.messages")


async def test_the_table_may_be_published_and_its_changes_carry_the_whole_row(project: Database) -> None:
    settings = await installed(project)
    project.run("CREATE PUBLICATION supabase_realtime")
    project.run(block("publication"))
    published = "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = 'supabase_realtime'"
    assert project.run(published) == [("creditsd", "balances")]
    project.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')", [USER])
    async with Line.settled(settings) as line:  # a published table without an identity could not be updated
        project.run("UPDATE user_credits SET credits = 7")
        assert [total.credits for total in await line.settle()] == [7]
        project.run("DELETE FROM creditsd.balances")
    assert (await schema.uninstall(settings)).done
    assert project.run(published) == []
