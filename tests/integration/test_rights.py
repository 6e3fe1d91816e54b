"""Whose rights our functions run with, and who may run them: nobody's code runs as anybody but its own author."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from creditsd.domain.errors import SchemaError
from creditsd.postgres import sql_files
from creditsd.schema import grants
from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import USER, Line, as_role, configured, installed
from tests.servers import REFERENCE_TABLE

CAPTURE = ("capture_insert", "capture_update", "capture_delete", "capture_truncate")

# A cast of somebody's own, which an assignment to a uuid runs with the rights of whoever assigns.
BAIT = """
CREATE TEMP TABLE caught (role text);
GRANT ALL ON caught TO PUBLIC;
CREATE TYPE pg_temp.lure AS ENUM ('x');
CREATE FUNCTION pg_temp.as_uuid(pg_temp.lure) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pg_temp.caught VALUES (current_user);
    RETURN '00000000-0000-0000-0000-000000000001';
END $$;
CREATE CAST (pg_temp.lure AS uuid) WITH FUNCTION pg_temp.as_uuid(pg_temp.lure) AS ASSIGNMENT;
CREATE TEMP TABLE bait (user_id pg_temp.lure);
"""

# What our functions may be called by besides their owner; the rest runs inside these, or inside triggers.
CALLED_BY_THE_DAEMON = {
    "begin_resync", "counts", "differs", "differs_now", "drain", "drain_few", "fingerprint", "forget",
    "functions_digest", "guard", "heartbeat", "level_differs", "level_now", "level_of", "low_at", "low_told", "purge",
    "recompute", "recompute_due", "recovered_at", "resume", "resync_next", "source_rows", "tidy_history", "totals",
    "totals_now", "users_after", "users_estimated",
}  # fmt: skip


@pytest.fixture
def owned(database: Database, role: str) -> Database:
    """The table of a role that is nobody special, where a superuser has installed."""
    database.run(f"GRANT CREATE ON SCHEMA public TO {role}")
    as_role(database, role).run(REFERENCE_TABLE)
    return database


@pytest.fixture
def other_role(database: Database, role: str) -> Iterator[str]:
    """A second role that may log in, and nothing else."""
    name = f"{role}_other"
    database.run(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    yield name
    database.run(f"DROP OWNED BY {name} CASCADE")
    database.run(f"DROP ROLE {name}")


def hang(database: Database, function: str) -> list[tuple[object, ...]]:
    """Hang a function of ours on the bait, take the bait, and return as whom the author's cast ran."""
    event = {"capture_update": "UPDATE", "capture_delete": "DELETE", "capture_truncate": "TRUNCATE"}
    each = "STATEMENT" if function == "capture_truncate" else "ROW"
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute(BAIT.encode())
        connection.execute(
            f"CREATE TRIGGER hung AFTER {event.get(function, 'INSERT')} ON bait FOR EACH {each} "
            f"EXECUTE FUNCTION creditsd.{function}()".encode()
        )
        for statement in ("INSERT INTO bait VALUES ('x')", "UPDATE bait SET user_id = 'x'", "DELETE FROM bait"):
            connection.execute(statement.encode())
        return connection.execute("SELECT DISTINCT role FROM caught").fetchall()


@pytest.mark.parametrize("function", CAPTURE)
@pytest.mark.parametrize("let_in_as", ["reader", "role"])
async def test_whoever_is_let_in_cannot_hang_our_triggers_on_their_own_table(
    owned: Database, other_role: str, let_in_as: str, function: str
) -> None:
    await installed(owned, **{let_in_as: other_role})
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=function):
        hang(as_role(owned, other_role), function)


@pytest.mark.parametrize("function", CAPTURE[:3])
async def test_the_owner_who_hangs_our_triggers_elsewhere_gains_nothing(
    owned: Database, role: str, function: str
) -> None:
    await installed(owned)
    assert hang(as_role(owned, role), function) == [(role,)]


async def test_nobody_but_the_daemon_calls_our_functions_and_it_only_those_it_needs(
    owned: Database, role: str, other_role: str
) -> None:
    await installed(owned, role=other_role, reader=role)
    callable_by = (
        "SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'creditsd'::regnamespace "
        "AND p.proname <> 'signed_in' AND has_function_privilege(%s, p.oid, 'EXECUTE')"
    )
    assert {name for (name,) in owned.run(callable_by, [other_role])} == CALLED_BY_THE_DAEMON
    owned.run("CREATE ROLE stranger_of_creditsd")
    try:
        assert owned.run(callable_by, ["stranger_of_creditsd"]) == []
    finally:
        owned.run("DROP ROLE stranger_of_creditsd")


async def test_each_right_that_is_granted_is_named_where_it_is_missing(owned: Database, other_role: str) -> None:
    await installed(owned, role=other_role)
    granted = re.findall(
        r"GRANT ([A-Z, ]+) ON (?:FUNCTION\s)?([a-z_., \n]+)\sTO", grants.daemon("creditsd", other_role)
    )
    pairs = [
        (privilege, each.strip())
        for privileges, objects in granted
        for privilege in privileges.split(", ")
        for each in objects.split(",")
    ]
    assert len(pairs) > len(CALLED_BY_THE_DAEMON)
    named = as_role(owned, other_role)
    assert named.run(sql_files.filled("queries/rights_lacking", "creditsd")) == [(other_role, None)]
    for privilege, each in pairs:
        kind = "FUNCTION " if privilege == "EXECUTE" else ""
        owned.run(f"REVOKE {privilege} ON {kind}{each} FROM {other_role}")
        assert named.run(sql_files.filled("queries/rights_lacking", "creditsd")) == [
            (other_role, [f"{privilege} on {each}"])
        ]
        owned.run(f"GRANT {privilege} ON {kind}{each} TO {other_role}")
    owned.run(f"REVOKE SELECT ON creditsd.balances FROM {other_role}")
    assert named.run(sql_files.filled("queries/rights_lacking", "creditsd")) == [
        (other_role, ["SELECT on creditsd.balances"])
    ]


# What lends its rights though nobody calls it but our own functions, or an install.
WITHIN = {"expire_empty", "home", "mark_everyone", "nothing_matches"}

EVERY_FUNCTION = """
SELECT
    p.proname,
    pg_get_userbyid(p.proowner),
    p.prosecdef,
    coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false) OR p.prosqlbody IS NOT NULL,
    p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) AS a WHERE a.grantee = 0)
FROM pg_proc AS p
WHERE p.pronamespace = 'creditsd'::regnamespace
"""


async def test_every_function_is_the_owners_has_its_names_pinned_and_is_closed_to_everybody(
    owned: Database, role: str, other_role: str
) -> None:
    await installed(owned, role=other_role, history={"days": 1})
    found = owned.run(EVERY_FUNCTION)
    assert len(found) > 40
    assert {owner for _, owner, *_ in found} == {role}
    assert [name for name, _, _, pinned, _ in found if not pinned] == [], (
        "a path of their own, or a body bound when made"
    )
    assert [(name, lends) for name, _, lends, _, is_open in found if is_open] == [("signed_in", False)]
    lending = {name for name, _, lends, _, _ in found if lends}
    assert lending - CALLED_BY_THE_DAEMON - set(CAPTURE) == WITHIN


async def test_everything_installed_belongs_to_the_owner_of_the_table(owned: Database, role: str) -> None:
    await installed(owned, history={"days": 1})
    owners = """
        SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.relnamespace = 'creditsd'::regnamespace
        UNION SELECT pg_get_userbyid(p.proowner) FROM pg_proc AS p WHERE p.pronamespace = 'creditsd'::regnamespace
        UNION SELECT pg_get_userbyid(t.typowner) FROM pg_type AS t WHERE t.typnamespace = 'creditsd'::regnamespace
        UNION SELECT pg_get_userbyid(n.nspowner) FROM pg_namespace AS n WHERE n.nspname = 'creditsd'
    """
    assert owned.run(owners) == [(role,)]
    assert (await schema.install(configured(owned, history={"days": 1}))).done == []


@pytest.mark.parametrize("installer", ["a superuser", "a member of the owner"])
async def test_what_the_applications_own_triggers_do_for_us_they_do_as_the_owner_of_the_table(
    owned: Database, role: str, other_role: str, installer: str
) -> None:
    application = as_role(owned, role)
    application.run("CREATE TABLE seen (role text); GRANT ALL ON seen TO PUBLIC")
    application.run(
        "CREATE FUNCTION note_role() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN NEW; END $$"
    )
    for name, trigger in (
        ("before", "CREATE TRIGGER before BEFORE UPDATE"),
        ("after", "CREATE TRIGGER after AFTER UPDATE"),
        ("deferred", "CREATE CONSTRAINT TRIGGER deferred AFTER UPDATE"),
    ):
        timing = " DEFERRABLE INITIALLY DEFERRED" if name == "deferred" else ""
        application.run(f"{trigger} ON user_credits{timing} FOR EACH ROW EXECUTE FUNCTION note_role()")
    owned.run(f"GRANT {role} TO {other_role}; GRANT CREATE ON DATABASE {owned.name} TO {other_role}")
    as_installer = owned if installer == "a superuser" else as_role(owned, other_role)
    settings = await installed(as_installer)
    async with Line.settled(settings) as line:
        application.run(
            "INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES (%s, 0, 'active', 'one_time')",
            [USER],
        )
        assert [total.cause for total in await line.settle()] == ["auto-expire"]
    assert owned.run("SELECT status FROM user_credits") == [("expired",)]
    assert owned.run("SELECT role, count(*) FROM seen GROUP BY role") == [(role, 3)]


async def test_a_trigger_that_sets_a_path_for_good_sets_none_for_us(owned: Database, role: str) -> None:
    as_role(owned, role).run(
        "CREATE FUNCTION lead_astray() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM set_config('search_path', 'public', false); RETURN NEW; END $$; "
        "CREATE TRIGGER astray BEFORE UPDATE ON user_credits FOR EACH ROW EXECUTE FUNCTION lead_astray(); "
        f"INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES ('{USER}', 0, 'active', 'one_time')"
    )
    async with Line.settled(await installed(owned)) as line:
        assert owned.run("SELECT status FROM user_credits") == [("expired",)]
        cursor = await line.connection.execute("SELECT current_setting('search_path')")
        assert await cursor.fetchone() == ("pg_catalog, pg_temp",)


async def test_an_installation_that_runs_as_its_installer_is_refused_until_it_is_installed_again(
    owned: Database, role: str
) -> None:
    settings = await installed(owned)
    owned.run("ALTER FUNCTION creditsd.expire_empty OWNER TO CURRENT_USER")
    async with await psycopg.AsyncConnection.connect(settings.dsn, autocommit=True) as connection:
        with pytest.raises(SchemaError, match=rf"expire_empty runs as .*, not as {role}.*run `creditsd install`"):
            await schema.missing(connection, settings)
        assert (await schema.install(settings)).done
        await schema.missing(connection, settings)


async def test_a_table_that_changes_its_owner_takes_the_installation_along_with_the_next_install(
    owned: Database, role: str, other_role: str
) -> None:
    settings = await installed(owned)
    owned.run(f"ALTER TABLE user_credits OWNER TO {other_role}")
    async with await psycopg.AsyncConnection.connect(settings.dsn, autocommit=True) as connection:
        with pytest.raises(SchemaError, match="run `creditsd install`"):
            await schema.missing(connection, settings)
    await schema.install(settings)
    assert owned.run("SELECT DISTINCT pg_get_userbyid(proowner) FROM pg_proc WHERE prosecdef") == [(other_role,)]
    async with Line.settled(settings) as line:
        owned.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')", [USER])
        assert [total.credits for total in await line.settle()] == [5]
