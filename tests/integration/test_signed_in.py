"""Reading from the database side, as PostgREST and Supabase do: a role, and the claims of whoever is signed in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import psycopg
import pytest
from structlog.testing import capture_logs

from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import connected
from creditsd.schema import install as schema
from creditsd.schema.installation import compare
from creditsd.schema.source_table import SourceTable
from tests.conftest import Database, eventually
from tests.integration.line import USER, MemorySink, as_role, configured, installed
from tests.integration.play import ADD
from tests.integration.running import running

USERS = 3000

# The type of the ids, how the n-th is made, the first of them, and what is no id of this type.
IDS = {
    "uuid": ("lpad(n::text, 32, '0')::uuid", "00000000-0000-0000-0000-000000000001", "no uuid"),
    "text": ("'user ' || n", "user 1", None),
    'varchar(40) COLLATE "C"': ("'user ' || n", "user 1", None),
    "bigint": ("n", "1", "9" * 30),
    "bpchar": ("'user ' || n", "user 1", None),
}

NOBODY = (
    "", "{}", "[]", "null", '"text"', "17", "garbage {", '{"sub": ', '{"sub": null}', '{"sub": {}}', "[" * 100_000,
    '{"sub": ""}', '{"sub": "\\u0000"}', '{"sub": "somebody else"}',
)  # fmt: skip

FILL = """
INSERT INTO creditsd.balances
    (user_id, version, updated_at, credits, membership_status, plan_type, can_buy, has_ever_had_subscription, cause)
SELECT {id}, n, now(), n, 'none', 'none', true, false, 'change' FROM generate_series(1, {users}) AS n
"""


def having(database: Database, kind: str) -> Database:
    database.run(f"CREATE TABLE user_credits (user_id {kind}, credits integer, status text)")
    return database


def fill(database: Database, kind: str) -> None:
    database.run(FILL.format(id=IDS[kind][0], users=USERS))
    database.run("ANALYZE creditsd.balances")


class Reader:
    """A connection that does as PostgREST does: it logs in as one role, and becomes another."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def opened(cls, database: Database, role: str) -> AsyncIterator[Reader]:
        async with database.connect() as connection:
            await connection.execute(f"SET ROLE {role}".encode())
            yield cls(connection)

    async def claim(self, claims: str) -> None:
        await self._connection.execute("SELECT set_config('request.jwt.claims', %s, false)", [claims])

    async def read(self, query: str = "SELECT user_id FROM creditsd.balances") -> list[str]:
        cursor = await self._connection.execute(query.encode())
        return [str(value) for (value,) in await cursor.fetchall()]


@pytest.mark.parametrize("kind", IDS)
async def test_a_signed_in_user_reads_their_own_row_by_its_key_and_no_other(
    database: Database, role: str, kind: str
) -> None:
    _, first, none = IDS[kind]
    await installed(having(database, kind), reader=role)
    fill(database, kind)
    async with Reader.opened(database, role) as reader:
        assert await reader.read() == []
        await reader.claim(json.dumps({"sub": first, "role": "authenticated"}))
        assert [user.rstrip() for user in await reader.read()] == [first]
        plan = "\n".join(await reader.read("EXPLAIN SELECT * FROM creditsd.balances"))
        assert "balances_pkey" in plan
        assert "Seq Scan" not in plan
        for claims in (*NOBODY, json.dumps({"sub": none})):
            await reader.claim(claims)
            assert await reader.read() == [], claims[:80]


CLAIMED: dict[str, tuple[dict[str, object], list[dict[str, object]]]] = {
    "org_id": ({"org_id": "{id}"}, [{"sub": "{id}"}, {"org_id": ["{id}"]}, {"org_id": {"org_id": "{id}"}}]),
    "app_metadata.org": (
        {"app_metadata": {"org": "{id}"}, "sub": "somebody else"},
        [{"app_metadata.org": "{id}"}, {"app_metadata": "{id}"}, {"app_metadata": [{"org": "{id}"}]}, {"org": "{id}"}],
    ),
    "https://example.com/it's.org": (
        {"https://example.com/it's.org": "{id}"},
        [{"https://example": {"com/it's": {"org": "{id}"}}}],
    ),
}


@pytest.mark.parametrize("claim", CLAIMED)
@pytest.mark.parametrize("kind", ["uuid", "text"])
async def test_the_claim_that_the_settings_name_is_whom_row_level_security_lets_read(
    database: Database, role: str, kind: str, claim: str
) -> None:
    right, wrong = CLAIMED[claim]
    await installed(having(database, kind), reader=role, http={"jwt_user_claim": claim})
    fill(database, kind)
    user_id = IDS[kind][1]
    async with Reader.opened(database, role) as reader:
        await reader.claim(json.dumps(right).replace("{id}", user_id))
        assert await reader.read() == [user_id]
        for claims in wrong:
            await reader.claim(json.dumps(claims).replace("{id}", user_id))
            assert await reader.read() == [], claims


async def test_a_list_or_an_object_is_nobody_where_ids_are_text(database: Database, role: str) -> None:
    await installed(having(database, "text"), reader=role)
    ids = ['{"a": 1}', "[1]", "true", "null", "", " user", "7"]
    database.run(FILL.format(id="(%s::text[])[n]", users=len(ids)), [ids])
    async with Reader.opened(database, role) as reader:
        for sub in ({"a": 1}, [1], True, None, "", "user"):
            await reader.claim(json.dumps({"sub": sub}))
            assert await reader.read() == [], sub
        for mine in (" user", "7", 7):
            await reader.claim(json.dumps({"sub": mine}))
            assert await reader.read() == [str(mine)]


async def test_another_claim_than_the_installed_one_is_said_until_it_is_installed(
    reference_table: Database, role: str
) -> None:
    settings = await installed(reference_table, reader=role)
    other = configured(reference_table, reader=role, http={"jwt_user_claim": "org_id"})
    async with connected(settings.dsn, purpose="test") as connection:
        assert (await compare(connection, settings)).divergences == []
        found = [str(each) for each in (await compare(connection, other)).divergences]
        assert found == ["the table or the settings differ from what is installed: run `creditsd install`"]
    assert (await schema.install(other)).done
    assert (await schema.install(other)).done == []
    async with Reader.opened(reference_table, role) as reader:
        reference_table.run(FILL.format(id=IDS["uuid"][0], users=2))
        await reader.claim(json.dumps({"sub": USER, "org_id": IDS["uuid"][1]}))
        assert await reader.read() == [IDS["uuid"][1]], "the grant and the policy are as they were"


async def test_who_reads_may_not_write_and_sees_nothing_else(reference_table: Database, role: str) -> None:
    await installed(reference_table, reader=role)
    theirs = as_role(reference_table, role)
    for forbidden in (
        "UPDATE creditsd.balances SET credits = 1000000",
        "DELETE FROM creditsd.balances",
        "SELECT FROM creditsd.changes",
        "SELECT FROM creditsd.source",
        "SELECT FROM creditsd.sinks",
        "SELECT creditsd.purge(1)",
        "SELECT FROM user_credits",
    ):
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction)):
            theirs.run(forbidden)
    assert theirs.run("SELECT creditsd.signed_in() IS NULL") == [(True,)]


async def test_the_reader_is_granted_once_and_keeps_it_over_installs(reference_table: Database, role: str) -> None:
    settings = configured(reference_table, reader=role)
    assert f"let the users of {role} read their own balance" in (await schema.install(settings)).done
    assert (await schema.install(settings)).done == []
    assert (await schema.install(configured(reference_table, can_buy="always", wakeup="poll"))).done
    assert as_role(reference_table, role).run("SELECT FROM creditsd.balances") == []


async def test_the_printed_script_grants_to_the_reader_or_says_how(reference_table: Database, role: str) -> None:
    unnamed = await schema.script(configured(reference_table))
    assert "creditsd install --reader NAME" in unnamed
    assert '-- GRANT SELECT ON creditsd.balances, creditsd.history TO "authenticated";' in unnamed
    named = await schema.script(configured(reference_table, reader=role))
    assert "--reader" not in named
    reference_table.psql(named)
    assert as_role(reference_table, role).run("SELECT FROM creditsd.balances") == []


GUARDED = """
SELECT DISTINCT relrowsecurity FROM pg_class
WHERE relnamespace = 'creditsd'::regnamespace AND (relname = 'balances' OR relname ~ '^history(_rest|_[0-9]{8})?$')
"""


async def test_a_role_that_may_read_all_data_dumps_everything_where_nobody_signs_in(
    reference_table: Database, role: str
) -> None:
    settings = await installed(reference_table, history={"days": 1})
    async with running(settings, MemorySink()):
        reference_table.run(f"GRANT pg_read_all_data TO {role}")
        reference_table.run(ADD, [USER, 5])
        dumped = reference_table.pg_dump(f"--role={role}")
    assert "COPY creditsd.balances" in dumped
    assert "COPY creditsd.history_" in dumped


@pytest.mark.parametrize("grantee", ["PUBLIC", "{role}"])
@pytest.mark.parametrize("grant", ["SELECT", "SELECT (user_id, credits)"])
async def test_whoever_is_let_in_by_hand_sees_no_row_of_somebody_elses(
    reference_table: Database, role: str, grant: str, grantee: str
) -> None:
    settings = await installed(reference_table, history={"days": 1})
    sink = MemorySink()
    read = "SELECT user_id::text, credits FROM creditsd.balances"
    theirs = as_role(reference_table, role)
    with capture_logs() as logs:
        async with running(settings, sink):
            reference_table.run(ADD, [USER, 5])
            await sink.until_credits(USER, 5)
            assert reference_table.run(GUARDED) == [(False,)]
            reference_table.run(f"GRANT USAGE ON SCHEMA creditsd TO {role}")
            reference_table.run(f"GRANT {grant} ON creditsd.balances TO {grantee.format(role=role)}")
            await eventually(partial(asyncio.to_thread, theirs.run, read), lambda rows: rows == [])
    assert reference_table.run(GUARDED) == [(True,)]
    assert [event["let_in"] for event in logs if event["event"] == "schema.rows_guarded"] == [
        [grantee.format(role=role)]
    ]
    async with Reader.opened(reference_table, role) as reader:
        await reader.claim(json.dumps({"sub": USER}))
        assert await reader.read() == [USER]


async def test_nobody_is_let_in_before_row_level_security_is_on(reference_table: Database, role: str) -> None:
    settings = await installed(reference_table, lock_wait_seconds=0.3)
    async with reference_table.connect(autocommit=False) as dump:
        await dump.execute("LOCK TABLE creditsd.balances IN ACCESS SHARE MODE")
        with pytest.raises(DatabaseUnavailable, match="never free"):
            await schema.install(settings.model_copy(update={"reader": role}))
        assert reference_table.run("SELECT has_table_privilege(%s, 'creditsd.balances', 'SELECT')", [role]) == [
            (False,)
        ]
        with capture_logs() as logs:
            async with running(settings, MemorySink()) as daemon:
                reference_table.run(f"GRANT SELECT ON creditsd.balances TO {role}")

                async def said() -> list[str]:
                    return [event["event"] for event in logs if event["event"].startswith("schema.rows_")]

                await eventually(said, lambda events: "schema.rows_unguarded" in events)
                assert daemon.state in ("leading", "backfilling")
                await dump.rollback()
                await eventually(said, lambda events: events[-1] == "schema.rows_guarded")


async def test_a_reader_that_does_not_exist_is_named(reference_table18: Database) -> None:
    with pytest.raises(SchemaError, match=r"no role 'authentcated'.*set reader"):
        await installed(reference_table18, reader="authentcated")
    assert reference_table18.run("SELECT to_regnamespace('creditsd') IS NULL") == [(True,)]


async def test_who_could_read_before_the_upgrade_still_can(reference_table: Database, role: str) -> None:
    settings = configured(reference_table)
    async with connected(settings.dsn, purpose="install") as connection:
        source = await SourceTable.inspect(connection, settings)
        for number, name in sql_files.migrations():
            if number <= 4:
                await connection.execute(source.filled(name).encode())
        await connection.execute(
            "INSERT INTO creditsd.installation (migration, digest, source, role) VALUES (4, 'of then', '{}', '')"
        )
    reference_table.run(f"GRANT USAGE ON SCHEMA creditsd TO {role}; GRANT SELECT ON creditsd.balances TO {role}")
    await schema.install(settings)
    fill(reference_table, "uuid")
    async with Reader.opened(reference_table, role) as reader:
        await reader.claim(json.dumps({"sub": IDS["uuid"][1]}))
        assert await reader.read() == [IDS["uuid"][1]]
