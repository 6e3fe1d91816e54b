"""Which role may install, and which one is enough to run."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from creditsd.admin.inspect import Inspector
from creditsd.daemon.app import Daemon
from creditsd.domain.errors import SchemaError
from creditsd.postgres.connections import connected
from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import OTHER, USER, Line, MemorySink, as_role, configured, installed
from tests.integration.schemas import dump
from tests.servers import REFERENCE_TABLE


async def test_a_role_without_rights_is_told_so(reference_table: Database, role: str) -> None:
    stranger = configured(as_role(reference_table, role))
    with pytest.raises(SchemaError, match=r"belongs to postgres: run `creditsd install` as postgres, as a member"):
        await schema.install(stranger)
    await installed(reference_table)
    before = dump(reference_table)
    async with connected(stranger.dsn, purpose="test") as connection:
        with pytest.raises(SchemaError, match=r"permission denied.*creditsd install --role NAME"):
            await schema.missing(connection, stranger)
    with pytest.raises(SchemaError, match="creditsd install --role NAME"):
        await Daemon(stranger).run()
    with pytest.raises(SchemaError):
        await schema.uninstall(stranger)
    assert dump(reference_table) == before


async def test_the_owner_of_the_table_may_install_what_it_needs(database: Database, role: str) -> None:
    database.run(f"GRANT CREATE ON SCHEMA public TO {role}")
    database.run(f"GRANT CREATE ON DATABASE {database.name} TO {role}")
    owner = as_role(database, role)
    owner.run(REFERENCE_TABLE)
    settings = await installed(owner)
    async with Line.settled(settings) as line:
        owner.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')", [USER])
        assert [total.credits for total in await line.settle()] == [5]
    assert (await schema.uninstall(settings)).done


async def test_a_restricted_role_is_enough_to_run(reference_table: Database, role: str) -> None:
    await installed(reference_table, role=role)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role(reference_table, role).run("SELECT FROM user_credits")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role(reference_table, role).run("UPDATE creditsd.balances SET credits = 1")
    settings = configured(as_role(reference_table, role), role=role)
    reference_table.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')", [USER])
    sink = MemorySink()
    daemon = Daemon(settings, extra=[("memory", sink)])
    running = asyncio.create_task(daemon.run())
    try:
        await sink.until_credits(USER, 5)
        reference_table.run(
            "INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES (%s, 0, 'active', 'one_time')",
            [OTHER],
        )
        total = await sink.until_credits(OTHER, 0)
        assert total.cause == "auto-expire"
        assert reference_table.run("SELECT status FROM user_credits WHERE credits = 0") == [("expired",)]
        reference_table.run("TRUNCATE user_credits")
        await sink.until_credits(USER, 0)
        async with Inspector.opened(settings, purpose="test") as inspector:
            assert (await inspector.total(USER)).membership_status == "none"
            assert (await inspector.explain(USER)).rows == []
            status = await inspector.status()
            assert (status.leader_pid is not None, [each.name for each in status.sinks]) == (True, ["memory"])
            assert await inspector.backfill(lambda *_: None)
    finally:
        daemon.stop()
        await running
    assert reference_table.run("SELECT count(*) > 0 FROM creditsd.sinks WHERE cursor > 0") == [(True,)]


async def test_an_install_without_a_role_takes_nothing_from_the_one_that_has_it(
    reference_table: Database, role: str
) -> None:
    await installed(reference_table, role=role)
    await installed(reference_table, can_buy="always", wakeup="poll")
    async with Line.opened(configured(as_role(reference_table, role), wakeup="poll")) as line:
        await line.settle()
