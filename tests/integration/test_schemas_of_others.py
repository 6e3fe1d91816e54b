"""Schemas that look like an installation and are somebody else's: never read, never taken for ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from creditsd.admin.installations import listed
from creditsd.domain.errors import SchemaError
from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import as_role, configured, installed

IMAGES = "creditsd_images"

# What it holds tells who has read it.
LURE = """
    CREATE SCHEMA {schema};
    CREATE TABLE {schema}.ran (role name);
    GRANT USAGE ON SCHEMA {schema} TO PUBLIC;
    GRANT INSERT ON {schema}.ran TO PUBLIC;
    CREATE FUNCTION {schema}.note() RETURNS bigint LANGUAGE sql
    AS $$ INSERT INTO {schema}.ran VALUES (current_user) RETURNING 0::bigint $$;
    CREATE TABLE {schema}.installation (migration int, digest text, source jsonb);
    INSERT INTO {schema}.installation VALUES (14, '', '{{"table": "public.user_credits"}}');
    CREATE VIEW {schema}.reader AS SELECT pg_current_snapshot() AS snapshot, {schema}.note() AS noted;
    CREATE VIEW {schema}.changes AS
        SELECT pg_current_xact_id() AS xid, ({schema}.note() + 0)::text AS user_id OFFSET 0;
    CREATE VIEW {schema}.sinks AS SELECT {schema}.note() AS cursor, {schema}.note()::integer AS served_by;
    CREATE VIEW {schema}.balances AS SELECT {schema}.note() AS version;
    GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO PUBLIC;
"""


@pytest.fixture
def stranger(reference_table: Database, role: str) -> Iterator[Database]:
    """The database as somebody sees it who may make schemas of their own there, and knows no table of ours."""
    reference_table.run(f"GRANT CREATE ON DATABASE {reference_table.name} TO {role}")
    yield as_role(reference_table, role)
    reference_table.run(f"REVOKE CREATE ON DATABASE {reference_table.name} FROM {role}")


async def test_what_a_stranger_has_made_is_named_in_the_list_and_never_read(
    stranger: Database, reference_table: Database, role: str
) -> None:
    settings = await installed(reference_table)
    stranger.run(LURE.format(schema="other_credits"))
    ours, theirs = await listed(settings)
    assert reference_table.run("SELECT DISTINCT role::text FROM other_credits.ran") == []
    assert (ours.schema, ours.problem) == ("creditsd", "")
    assert (theirs.schema, theirs.table, theirs.migration) == ("other_credits", None, None)
    assert theirs.problem.endswith(f"ask as {role}")
    (seen,) = [each for each in await listed(configured(stranger)) if each.schema == "other_credits"]
    assert (seen.migration, seen.problem) == (14, "")


async def test_a_table_of_a_strangers_in_a_schema_of_ours_is_not_read_either(
    reference_table: Database, role: str
) -> None:
    settings = await installed(reference_table)
    await schema.install(configured(reference_table, schema=IMAGES))
    reference_table.run(f"ALTER TABLE {IMAGES}.balances OWNER TO {role}")
    _, images = await listed(settings)
    assert images.migration is None
    assert images.problem.endswith(f"ask as {role}")


async def test_a_table_of_the_applications_that_is_called_installation_is_not_listed(
    reference_table: Database,
) -> None:
    settings = await installed(reference_table)
    reference_table.run("CREATE TABLE public.installation (migration int, digest text)")
    assert [each.schema for each in await listed(settings)] == ["creditsd"]


# An older installation, as far as an install looks, that keeps what everybody writes.
SQUATTED = """
    CREATE SCHEMA {schema};
    CREATE TABLE {schema}.installation (LIKE of_ours.installation);
    INSERT INTO {schema}.installation SELECT * FROM of_ours.installation;
    CREATE TABLE {schema}.changes (xid xid8 DEFAULT pg_current_xact_id(), user_id uuid);
    CREATE FUNCTION {schema}.take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
    CREATE TRIGGER take BEFORE INSERT ON {schema}.changes FOR EACH ROW EXECUTE FUNCTION {schema}.take();
"""


@pytest.mark.parametrize("name", ["creditsd", IMAGES])
async def test_a_schema_that_a_stranger_has_laid_out_as_an_installation_is_not_installed_into(
    stranger: Database, reference_table: Database, role: str, name: str
) -> None:
    await schema.install(configured(reference_table, schema="of_ours"))
    reference_table.run(f"GRANT USAGE ON SCHEMA of_ours TO {role}; GRANT SELECT ON of_ours.installation TO {role}")
    stranger.run(SQUATTED.format(schema=name))
    stranger.run(f"UPDATE {name}.installation SET migration = 13")
    before = reference_table.run("SELECT tgname FROM pg_trigger")
    with pytest.raises(
        SchemaError, match=f"the schema {name}, or what is in it, is {role}'s, who does not own public.user_credits"
    ):
        await schema.install(configured(reference_table, schema=name))
    assert reference_table.run("SELECT tgname FROM pg_trigger") == before


async def test_an_installation_of_an_owner_of_the_table_before_stays_ours(reference_table: Database, role: str) -> None:
    reference_table.run(f"ALTER TABLE user_credits OWNER TO {role}")
    settings = await installed(reference_table)
    reference_table.run("ALTER TABLE user_credits OWNER TO CURRENT_USER")
    await schema.install(settings)
    owner = "SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = 'creditsd'"
    assert reference_table.run(owner) == reference_table.run("SELECT current_user::text")


async def test_a_table_of_what_is_installed_that_a_stranger_has_made_is_not_believed(
    reference_table: Database, role: str
) -> None:
    settings = await installed(reference_table)
    reference_table.run("DROP TRIGGER creditsd_update ON user_credits")
    reference_table.run(f"ALTER TABLE creditsd.installation OWNER TO {role}")
    with pytest.raises(SchemaError, match=f"the schema creditsd, or what is in it, is {role}'s"):
        await schema.install(settings)
