"""Roles that share the database: what they may do to the table they may, and nothing more of ours is theirs."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

from creditsd.admin.doctor import examine
from creditsd.domain.errors import SchemaError
from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import OTHER, USER, Line, MemorySink, as_role, installed
from tests.integration.running import running
from tests.servers import REFERENCE_TABLE

FILL = "INSERT INTO public.user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"

RELATIONS = """
SELECT c.relname, a.attname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = 1
WHERE c.relnamespace = 'creditsd'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1
"""
FUNCTIONS = """
SELECT p.proname, ARRAY(SELECT format_type(a, NULL) FROM unnest(p.proargtypes::oid[]) AS a)
FROM pg_proc AS p WHERE p.pronamespace = 'creditsd'::regnamespace AND p.prorettype <> 'trigger'::regtype ORDER BY 1
"""
TO_A_RELATION = (
    "SELECT count(*) FROM {}",
    "INSERT INTO {} DEFAULT VALUES",
    "DELETE FROM {}",
    "TRUNCATE {}",
    "DO $$ BEGIN LOCK TABLE {} IN ROW EXCLUSIVE MODE; END $$",
    "CREATE TRIGGER theirs BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE TABLE public.theirs () INHERITS ({})",
    "CREATE POLICY theirs ON {} USING (true)",
    "ALTER TABLE {} DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE {} OWNER TO CURRENT_USER",
    "DROP TABLE {}",
)
TO_THE_SCHEMA = (
    "SELECT FROM creditsd.source",
    "CREATE TABLE creditsd.theirs ()",
    "CREATE FUNCTION creditsd.amount(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
    "ALTER FUNCTION creditsd.signed_in OWNER TO CURRENT_USER",
    "ALTER FUNCTION creditsd.signed_in RESET search_path",
    "CREATE OR REPLACE VIEW creditsd.source AS SELECT 1 AS user_id",
    "ALTER SCHEMA creditsd RENAME TO theirs",
    "DROP SCHEMA creditsd CASCADE",
    "TRUNCATE public.user_credits",
    "ALTER TABLE public.user_credits DISABLE TRIGGER creditsd_update",
    "DROP TRIGGER creditsd_update ON public.user_credits",
    "ALTER TRIGGER creditsd_update ON public.user_credits RENAME TO theirs",
    "CREATE TRIGGER theirs AFTER INSERT ON public.user_credits FOR EACH ROW EXECUTE FUNCTION creditsd.capture_insert()",
    "CREATE TABLE public.theirs () INHERITS (public.user_credits)",
    "SET session_replication_role = replica",
)


@pytest.fixture
def owner(database: Database, role: str) -> Database:
    """The database as the owner of the table sees it, who is nobody special."""
    database.run(f"GRANT CREATE ON SCHEMA public TO {role}; GRANT CREATE ON DATABASE {database.name} TO {role}")
    mine = as_role(database, role)
    mine.run(REFERENCE_TABLE)
    return mine


@pytest.fixture
def application(database: Database, owner: Database, role: str) -> Iterator[Database]:
    """The same as an application does that may do to the table and to `public` all that can be granted but TRUNCATE."""
    name = f"{role}_app"
    database.run(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    database.run(
        f"GRANT SELECT, INSERT, UPDATE, DELETE, REFERENCES, TRIGGER ON public.user_credits TO {name}; "
        f"GRANT USAGE ON SEQUENCE public.user_credits_id_seq TO {name}; GRANT CREATE ON SCHEMA public TO {name}; "
        f"GRANT TEMPORARY ON DATABASE {database.name} TO {name}"
    )
    yield as_role(database, name)
    database.run(f"DROP OWNED BY {name} CASCADE")
    database.run(f"DROP ROLE {name}")


def attempts(database: Database) -> Iterator[sql.Composed]:
    """Yield everything that could be tried with what is installed, by the catalogue: what comes later, too."""
    for name, column in database.run(RELATIONS):
        relation = sql.Identifier("creditsd", name)
        yield from (sql.SQL(each).format(relation) for each in TO_A_RELATION)
        yield sql.SQL("UPDATE {0} SET {1} = {1}").format(relation, sql.Identifier(column))
    for name, types in database.run(FUNCTIONS):
        arguments = sql.SQL(", ").join(sql.SQL(f"NULL::{each}") for each in types)
        yield sql.SQL("SELECT {}({})").format(sql.Identifier("creditsd", name), arguments)
    yield from (sql.Composed([sql.SQL(each)]) for each in TO_THE_SCHEMA)


# Partitions have no heirs, whoever asks.
NEVER = (psycopg.errors.WrongObjectType,)


def passed(database: Database, tried: list[sql.Composed]) -> list[str]:
    """Try each, and return those that the server did not refuse for want of a right."""
    let_through = []
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for each in tried:
            try:
                connection.execute(each)
            except (psycopg.errors.InsufficientPrivilege, *NEVER):
                continue
            except psycopg.Error as error:
                let_through.append(f"{each.as_string()}: {error}")
            else:
                let_through.append(each.as_string())
    return let_through


async def test_an_application_with_its_table_alone_reads_forges_and_deletes_nothing_of_ours(
    owner: Database, application: Database
) -> None:
    await installed(owner, history={"days": 1})
    tried = list(attempts(owner))
    assert len(tried) > 200
    assert passed(application, tried) == []


async def test_who_reads_their_own_balance_can_do_that_and_nothing_else(owner: Database, application: Database) -> None:
    reader = application.run("SELECT current_user")[0][0]
    settings = await installed(owner, reader=reader, history={"days": 1})
    async with Line.settled(settings) as line:
        owner.run(FILL, [USER, 5])
        assert [total.credits for total in await line.settle()] == [5]
    tried = list(attempts(owner))
    assert passed(application, tried) == [
        'SELECT count(*) FROM "creditsd"."balances"',
        'SELECT count(*) FROM "creditsd"."history"',
        'SELECT "creditsd"."signed_in"()',
    ]
    for table in ("balances", "history"):
        assert application.run(f"SELECT FROM creditsd.{table}") == []


async def test_the_role_of_the_daemon_writes_no_credits_no_total_and_no_code(
    owner: Database, application: Database
) -> None:
    name = application.run("SELECT current_user")[0][0]
    owner.run(f"REVOKE ALL ON public.user_credits FROM {name}")
    await installed(owner, role=name)
    refused = [
        *TO_THE_SCHEMA[1:],
        "SELECT FROM public.user_credits",
        "UPDATE public.user_credits SET credits = 1000000",
        "INSERT INTO creditsd.changes (user_id) VALUES (NULL)",
        "UPDATE creditsd.installation SET role = role",
        *(f"{verb} creditsd.{table}" for table in ("balances", "history") for verb in ("DELETE FROM", "TRUNCATE")),
        "UPDATE creditsd.balances SET credits = 1000000",
    ]
    assert passed(application, [sql.Composed([sql.SQL(each)]) for each in refused]) == []


SHADOWS = """
CREATE TABLE public.caught (what text);
GRANT ALL ON public.caught TO PUBLIC;
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.caught VALUES ('a trigger as ' || current_user);
    RETURN NULL;
END $$;
"""
SHADOWED_TABLES = ("changes", "resyncs", "user_credits", "pg_class", "pg_trigger", "reader", "balances")
SHADOWED_FUNCTIONS = ("mark_everyone()", "signed_in()", "fingerprint()", "unnest(uuid[])", "cardinality(oid[])")


def laid_out(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Put what has the names of ours, and of PostgreSQL's, where a careless path would find it first."""
    connection.execute(SHADOWS.encode())
    for name in SHADOWED_TABLES:
        connection.execute(f"CREATE TEMP TABLE {name} (xid xid8, user_id uuid, cause text, credits integer)".encode())
        connection.execute(
            f"CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON pg_temp.{name} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION public.note()".encode()
        )
    for where in ("public", "pg_temp"):
        for signature in SHADOWED_FUNCTIONS:
            connection.execute(
                f"CREATE FUNCTION {where}.{signature} RETURNS uuid LANGUAGE plpgsql AS $$ BEGIN INSERT INTO "
                f"public.caught VALUES ('{where}.{signature} as ' || current_user); RETURN NULL; END $$".encode()
            )
    connection.execute(b"SET search_path = pg_temp, public, creditsd, pg_catalog")


async def test_what_a_writer_puts_before_our_names_is_never_found(owner: Database, application: Database) -> None:
    settings = await installed(owner)
    async with Line.settled(settings) as line:
        with psycopg.connect(application.dsn, autocommit=True) as connection:
            laid_out(connection)
            for statement in (
                FILL.replace("%s, %s", f"'{USER}', 7"),
                "UPDATE public.user_credits SET credits = 0, plan_type = 'one_time'",
                f"UPDATE public.user_credits SET user_id = '{OTHER}'",
                "DELETE FROM public.user_credits",
            ):
                connection.execute(statement.encode())
            assert await line.marked() == [USER, USER, USER, OTHER, OTHER]
            assert connection.execute("SELECT what FROM public.caught").fetchall() == []
            await line.settle()
    assert owner.run("SELECT cause FROM creditsd.resyncs") == []


FORCED = {
    "a trigger of the name of ours": (
        "CREATE TRIGGER creditsd_theirs AFTER INSERT ON public.user_credits "
        "FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    ),
    "a trigger that means every write": (
        "CREATE TRIGGER insert_creditsd_creditsd BEFORE UPDATE ON public.user_credits "
        "FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    ),
    "a foreign key": "CREATE TABLE public.theirs (id bigint REFERENCES public.user_credits (id))",
    "a schema of ours elsewhere": "CREATE TEMP TABLE changes (); CREATE TEMP TABLE resyncs (cause text)",
    "a table that is partitioned like ours": "CREATE TABLE public.user_credits_1 (LIKE public.user_credits)",
}


@pytest.mark.parametrize("what", FORCED)
async def test_nothing_that_may_be_made_beside_the_table_has_everyone_recomputed(
    owner: Database, application: Database, what: str
) -> None:
    settings = await installed(owner)
    async with Line.settled(settings) as line:
        before = owner.run("SELECT creditsd.fingerprint()")
        application.run(FORCED[what])
        assert owner.run("SELECT creditsd.fingerprint()") == before
        assert await line.settle() == []


PAYLOADS = ("", "sinks", "truncate", "proof", "proof 0123456789abcdef", "resync", "x" * 7999, "\x1b]0;pwned\x07", "{}")


async def test_whoever_rings_the_bell_with_whatever_word_changes_nothing(
    owner: Database, application: Database
) -> None:
    settings = await installed(owner)
    sink = MemorySink()
    with capture_logs() as logs:
        async with running(settings, sink) as daemon:
            owner.run(FILL, [USER, 5])
            await sink.until_credits(USER, 5)
            before = list(sink.totals)
            said = [event["event"] for event in logs]
            with psycopg.connect(application.dsn, autocommit=True) as connection:
                for number in range(200):
                    for channel in ("creditsd", "creditsd_lead"):
                        payload = PAYLOADS[number % len(PAYLOADS)]
                        connection.execute("SELECT pg_notify(%s, %s)", [channel, payload])
            owner.run(FILL, [OTHER, 6])
            await sink.until_credits(OTHER, 6)
            assert daemon.health()["doorbell"] in ("asleep", "awake", "polling")
            assert sink.totals[: len(before)] == before
            assert {total.user_id for total in sink.totals[len(before) :]} == {OTHER}
            assert [event for event in logs[len(said) :] if event["log_level"] not in ("debug", "info")] == []
    assert [event for event in logs if event["event"] == "balances.resync_begun"][1:] == []


THEIRS = "user_id::text = current_setting('app.user', true) AND credits < 50"
OWN_ROWS = f"""
ALTER TABLE public.user_credits ENABLE ROW LEVEL SECURITY;
CREATE POLICY read ON public.user_credits FOR SELECT USING ({THEIRS});
CREATE POLICY add ON public.user_credits FOR INSERT WITH CHECK ({THEIRS});
CREATE POLICY alter ON public.user_credits FOR UPDATE USING ({THEIRS});
CREATE POLICY remove ON public.user_credits FOR DELETE USING ({THEIRS});
"""


@pytest.mark.parametrize("owner_is", ["exempt", "forced, and BYPASSRLS"])
async def test_under_row_level_security_every_command_is_captured_and_all_rows_are_summed(
    database: Database, owner: Database, application: Database, role: str, owner_is: str
) -> None:
    owner.run(OWN_ROWS)
    if owner_is != "exempt":
        database.run(f"ALTER ROLE {role} BYPASSRLS")
        owner.run("ALTER TABLE public.user_credits FORCE ROW LEVEL SECURITY")
    settings = await installed(owner)
    owner.run(FILL, [USER, 100])  # which the application does not see
    owner.run(FILL, [OTHER, 7])
    async with Line.settled(settings) as line:
        with psycopg.connect(application.dsn, autocommit=True) as connection:
            connection.execute("SELECT set_config('app.user', %s, false)", [USER])

            async def after(statement: str) -> list[tuple[str, int]]:
                connection.execute(statement.encode())
                return [(total.user_id, int(total.credits)) for total in await line.settle()]

            added = FILL.replace("%s, %s", f"'{USER}', 20")
            assert await after(added) == [(USER, 120)]
            assert connection.execute("SELECT credits FROM public.user_credits").fetchall() == [(20,)]
            assert await after("UPDATE public.user_credits SET credits = 30") == [(USER, 130)]
            assert await after("UPDATE public.user_credits SET credits = 0, plan_type = 'one_time'") == [(USER, 100)]
            assert owner.run("SELECT status FROM user_credits WHERE credits = 0") == [("expired",)]
            assert await after("DELETE FROM public.user_credits") == []
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(FILL, [OTHER, 1000])
            assert await after("SELECT") == []
        assert await line.stored() == {USER: 100, OTHER: 7}


async def test_a_trigger_that_is_put_in_the_place_of_ours_is_noticed_and_nothing_is_lost(
    owner: Database, application: Database
) -> None:
    settings = await installed(owner)
    async with Line.settled(settings) as line:
        before = owner.run("SELECT creditsd.fingerprint()")
        application.run(
            "CREATE OR REPLACE TRIGGER creditsd_insert AFTER INSERT ON public.user_credits "
            "FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        )
        assert owner.run("SELECT creditsd.fingerprint()") != before
        with pytest.raises(SchemaError, match="not creditsd's have the names of its own"):
            await schema.missing(line.connection, settings)
    owner.run("DROP TRIGGER creditsd_insert ON public.user_credits")
    owner.run(FILL, [USER, 5])
    await schema.install(settings)
    async with Line.settled(settings) as line:
        assert await line.stored() == {USER: 5}


async def test_doctor_names_who_may_run_code_as_the_owner_by_a_trigger_of_theirs(
    owner: Database, application: Database, role: str
) -> None:
    name = application.run("SELECT current_user")[0][0]

    settings = await installed(owner)

    async def said() -> list[str]:
        return [each.said async for each in examine(settings) if "may put triggers" in each.said]

    (line,) = await said()
    assert line.startswith(
        f"{name} may put triggers on public.user_credits, in the place of ours too: they run as {role}"
    )
    owner.run(f"REVOKE TRIGGER ON public.user_credits FROM {name}; GRANT TRIGGER ON public.user_credits TO PUBLIC")
    (line,) = await said()
    assert line.startswith("PUBLIC may put triggers on public.user_credits")
    owner.run("REVOKE TRIGGER ON public.user_credits FROM PUBLIC")
    assert await said() == []
