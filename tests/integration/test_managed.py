"""As a managed service has it: administrators who are no superusers, and computes that sleep when nobody asks.

The services themselves are not here; what they refuse is taken away from a plain PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from creditsd.domain.errors import SchemaError
from creditsd.schema import install as schema
from tests.conftest import Database, eventually
from tests.integration.line import USER, MemorySink, as_role, configured, installed
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"


@pytest.fixture
def boss(database: Database, role: str) -> Iterator[Database]:
    """The database as its administrator sees it: as cloudsqlsuperuser, rds_superuser or azure_pg_admin are."""
    database.run(f"ALTER ROLE {role} NOSUPERUSER CREATEDB CREATEROLE NOREPLICATION")
    database.run(f"GRANT pg_monitor, pg_signal_backend TO {role}")
    database.run(f"ALTER DATABASE {database.name} OWNER TO {role}")
    database.run(f"ALTER SCHEMA public OWNER TO {role}")
    yield as_role(database, role)
    database.run(f"ALTER DATABASE {database.name} OWNER TO CURRENT_USER")


@contextmanager
def made_by(boss: Database, database: Database, what: str) -> Iterator[str]:
    """Have the administrator make a role that may log in, and take it away again."""
    name = f"{what}_{boss.name}"
    boss.run(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    try:
        yield name
    finally:
        database.run(f"DROP OWNED BY {name} CASCADE")
        database.run(f"DROP ROLE {name}")


async def test_an_administrator_who_is_no_superuser_installs_and_a_role_of_few_rights_leads(
    boss: Database, database: Database
) -> None:
    boss.run(REFERENCE_TABLE)
    with made_by(boss, database, "daemon") as daemon_role:
        await installed(boss, role=daemon_role)
        limited = Database(boss.server, boss.name, make_conninfo(boss.dsn, user=daemon_role))
        sink = MemorySink()
        async with running(configured(limited), sink) as daemon:
            await until(daemon, "state", "leading")
            boss.run(ADD, [USER, 5])
            await sink.until_credits(USER, 5)
        assert (await schema.uninstall(configured(boss))).done[-1] == "dropped the schema creditsd"


async def test_an_administrator_installs_for_another_role_once_a_member_of_it(
    boss: Database, database: Database, role: str
) -> None:
    with made_by(boss, database, "owner") as owner:
        boss.run(f"GRANT CREATE ON SCHEMA public TO {owner}")
        application = Database(boss.server, boss.name, make_conninfo(boss.dsn, user=owner))
        application.run(REFERENCE_TABLE)
        with pytest.raises(SchemaError, match=f"belongs to {owner}: run `creditsd install` as {owner}"):
            await installed(boss)
        boss.run(f"GRANT {owner} TO {role}")
        settings = await installed(boss)
        assert (await schema.install(settings)).done == []
        owners = "SELECT DISTINCT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'creditsd'::regnamespace"
        assert boss.run(owners) == [(owner,)]
        sink = MemorySink()
        async with running(settings, sink) as daemon:
            await until(daemon, "state", "leading")
            application.run(ADD, [USER, 5])
            await sink.until_credits(USER, 5)
        await schema.uninstall(settings)


@pytest.mark.parametrize("wakeup", ["doorbell", "poll"])
async def test_neither_way_of_waking_leaves_an_idle_database_alone(reference_table18: Database, wakeup: str) -> None:
    """What docs/deploy.md says of computes that sleep: while a daemon runs, they do not."""
    settings = await installed(reference_table18, wakeup=wakeup, poll_seconds=30.0)
    last = (
        "SELECT max(query_start) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE 'creditsd %'"
    )
    async with running(settings, MemorySink()) as daemon:
        await until(daemon, "sinks", {"memory": "current"})

        async def asked() -> Any:
            return reference_table18.run(last)[0][0]

        before = await asked()
        await eventually(asked, lambda found: found > before, seconds=30)


async def test_what_is_written_while_no_daemon_keeps_a_compute_awake_is_told_at_the_next_start(
    reference_table18: Database,
) -> None:
    settings = await installed(reference_table18)
    sink = MemorySink()
    async with running(settings, sink):
        reference_table18.run(ADD, [USER, 1])
        await sink.until_credits(USER, 1)
    reference_table18.run(ADD, [USER, 1])
    later = MemorySink()
    async with running(settings, later):
        await later.until_credits(USER, 2)
