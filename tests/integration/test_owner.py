"""Which installation a sink is written to by: told apart by schema and database."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from creditsd.config.settings import Settings
from creditsd.domain.owner import Owner
from creditsd.postgres.connections import connected
from creditsd.schema.owner import owner_of
from tests.conftest import Database
from tests.integration.leading import restricted
from tests.integration.line import configured, installed


@pytest.fixture
def copied(installation: Database) -> Iterator[Database]:
    name = f"{installation.name}_copy"
    server = installation.server
    yield dataclasses.replace(installation, name=name, dsn=server.create_database(name, template=installation.name))
    server.drop_database(name)


async def owner(settings: Settings) -> Owner:
    async with connected(settings.dsn, purpose="test", schema=settings.schema) as connection:
        return await owner_of(connection)


async def test_a_copied_database_is_another_one_and_the_same_stays_the_same(
    installation: Database, copied: Database
) -> None:
    found = await owner(configured(installation))
    assert found == await owner(configured(installation))
    assert found.schema == "creditsd"
    ((identifier, oid),) = installation.run(
        "SELECT (pg_control_system()).system_identifier, oid FROM pg_database WHERE datname = current_database()"
    )
    assert found.database == f"{identifier}.{oid}"
    assert (await owner(configured(copied))).database != found.database


async def test_the_daemons_role_may_ask(reference_table: Database) -> None:
    with restricted(reference_table) as (role, seen):
        await installed(reference_table, role=role)
        assert await owner(configured(seen, role=role)) == await owner(configured(reference_table))
