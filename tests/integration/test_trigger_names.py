"""Triggers that have the names of ours, or ours under another name: what is not ours is never dropped."""

from __future__ import annotations

import pytest

from creditsd.admin.inspect import Inspector
from creditsd.domain.errors import SchemaError
from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import configured, installed

OF_THE_APPLICATION = """
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
    CREATE TRIGGER {name} AFTER UPDATE ON user_credits FOR EACH ROW EXECUTE FUNCTION audit();
"""
NAMES = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'user_credits'::regclass ORDER BY 1"


@pytest.mark.parametrize(
    ("installation", "name"),
    [("creditsd", "creditsd_update"), ("credits", "update_creditsd_credits")],
)
async def test_a_trigger_of_the_applications_that_has_the_name_of_one_of_ours_is_kept_and_named(
    reference_table: Database, installation: str, name: str
) -> None:
    settings = configured(reference_table, schema=installation)
    reference_table.run(OF_THE_APPLICATION.format(name=name))
    with pytest.raises(SchemaError, match=rf"public\.user_credits has a trigger {name} that is not creditsd's"):
        await schema.install(settings)
    assert reference_table.run(NAMES) == [(name,)]
    reference_table.run(f"ALTER TRIGGER {name} ON user_credits RENAME TO audit_update")
    await schema.install(settings)
    assert ("audit_update",) in reference_table.run(NAMES)


async def test_a_trigger_that_took_the_place_of_ours_is_missed_and_not_dropped(reference_table: Database) -> None:
    settings = await installed(reference_table)
    reference_table.run("DROP TRIGGER creditsd_update ON user_credits")
    reference_table.run(OF_THE_APPLICATION.format(name="creditsd_update"))
    with pytest.raises(SchemaError, match=r"that are not creditsd's have the names of its own on public\.user_credits"):
        async with Inspector.opened(settings, purpose="test"):
            pass
    before = reference_table.run(NAMES)
    with pytest.raises(SchemaError, match="has a trigger creditsd_update that is not creditsd's"):
        await schema.install(settings)
    assert reference_table.run(NAMES) == before


async def test_usual_names_of_triggers_are_the_applications(reference_table: Database) -> None:
    reference_table.run(OF_THE_APPLICATION.format(name="update_of_credits"))
    await schema.install(configured(reference_table, schema="credits"))
    assert ("update_of_credits",) in reference_table.run(NAMES)


async def test_each_installation_watches_over_its_own_triggers_by_name(reference_table: Database) -> None:
    marks = {}
    for name in ("images", "creditsd_images", "my_images"):
        await schema.install(configured(reference_table, schema=name))
        marks[name] = reference_table.run(f"SELECT {name}.fingerprint()")
    for name, mark in marks.items():
        assert reference_table.run(f"SELECT {name}.fingerprint()") == mark
