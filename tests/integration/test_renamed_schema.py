"""The schema of an installation by another name: the next install takes it on, with its triggers."""

from __future__ import annotations

import psycopg
import pytest

from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import USER, configured

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')"
NAMES = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'user_credits'::regclass ORDER BY 1"


@pytest.mark.parametrize(
    ("before", "after"),
    [("creditsd_images", "pictures"), ("creditsd", "pictures"), ("pictures", "creditsd")],
)
async def test_a_schema_that_was_renamed_marks_each_write_once_after_the_next_install(
    reference_table: Database, before: str, after: str
) -> None:
    await schema.install(configured(reference_table, schema=before))
    reference_table.run(f"ALTER SCHEMA {before} RENAME TO {after}")
    with pytest.raises(psycopg.errors.UndefinedTable):
        reference_table.run(ADD, [USER])
    settings = configured(reference_table, schema=after)
    done = (await schema.install(settings)).done
    assert any(line.startswith("took the triggers") and "of another name" in line for line in done)
    assert (await schema.install(settings)).done == []
    assert len(reference_table.run(NAMES)) == 4
    reference_table.run(ADD, [USER])
    assert reference_table.run(f"SELECT count(*) FROM {after}.changes") == [(1,)]


async def test_a_trigger_of_another_name_on_our_function_marks_no_write_twice(reference_table: Database) -> None:
    settings = configured(reference_table)
    await schema.install(settings)
    reference_table.run("ALTER TRIGGER creditsd_insert ON user_credits RENAME TO noted")
    done = (await schema.install(settings)).done
    assert "took the triggers of another name off public.user_credits" in done
    assert ("noted",) not in reference_table.run(NAMES)
