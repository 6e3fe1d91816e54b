"""forget: a user is gone from our tables and from every sink that can take back what it was told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis.asyncio as redis

from creditsd.admin.forget import Eraser, Forgotten
from creditsd.config.settings import Settings
from creditsd.domain.errors import DatabaseUnavailable, InputError
from tests.acceptance.command import creditsd, environment
from tests.conftest import Database, eventually
from tests.integration.leading import leading, restricted
from tests.integration.line import OTHER, USER, Line, MemorySink, configured, installed
from tests.servers import Valkey

TABLES = ("balances", "changes", "deliveries", "repairs", "history", "attempts")


async def forget(settings: Settings, user_id: str = USER) -> Forgotten:
    async with Eraser.opened(settings) as eraser:
        return await eraser.forget(user_id)


def traces(database: Database, user_id: str = USER) -> list[str]:
    """The tables of ours that still know a user, wherever in a row."""
    return [
        table
        for table in TABLES
        if database.run(f"SELECT FROM creditsd.{table} AS t WHERE strpos(t::text, %s) > 0", [user_id])
    ]


def give(database: Database, *users: str) -> None:
    for user_id in users:
        database.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')", [user_id])


def refuse(database: Database, sink: str, user_id: str) -> None:
    database.run(
        "INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, last_error) VALUES (%s, %s, 1, 1, 'no')",
        [sink, user_id],
    )


def cached(valkey: Valkey) -> dict[str, Any]:
    return {"name": "cache", "url": valkey.url, "stream": "totals"}


async def entries(client: Any) -> list[bytes]:
    return [fields[b"total"] for _, fields in await client.xrange("totals")]


async def test_a_user_is_gone_from_every_table_and_nobody_else(reference_table: Database) -> None:
    settings = await installed(reference_table, history={"days": 3})
    give(reference_table, USER, OTHER)
    async with Line.settled(settings):
        pass
    reference_table.run("DELETE FROM user_credits WHERE user_id = %s", [USER])
    refuse(reference_table, "hook", USER)
    refuse(reference_table, "hook", OTHER)
    reference_table.run("INSERT INTO creditsd.repairs VALUES (%s)", [USER])
    found = await forget(settings)
    assert (found.balances, found.deliveries, found.history, found.remaining, found.sinks) == (1, 1, 1, 0, [])
    assert found.changes >= 1
    assert traces(reference_table) == []
    assert {"balances", "deliveries", "history"} <= set(traces(reference_table, OTHER))


async def test_the_key_and_the_entries_of_a_stream_go_too(reference_table: Database, valkey: Valkey) -> None:
    settings = await installed(reference_table, sinks=[cached(valkey)])
    give(reference_table, USER, OTHER)
    async with leading(settings), redis.Redis(host=valkey.host, port=valkey.port) as client:
        await eventually(client.dbsize, lambda size: size == 3)
        give(reference_table, USER)
        await eventually(lambda: client.xlen("totals"), lambda length: length == 3)
        reference_table.run("DELETE FROM user_credits WHERE user_id = %s", [USER])
        await eventually(lambda: client.xlen("totals"), lambda length: length == 4)
        found = await forget(settings, USER.upper())
        assert [(each.sink, each.outcome, each.said) for each in found.sinks] == [
            ("cache", "erased", "erased 4 entries")
        ]
        assert await client.keys("credits:*") == [f"credits:{OTHER}".encode()]
        assert [USER.encode() in entry for entry in await entries(client)] == [False]
        assert [each.outcome for each in (await forget(settings)).sinks] == ["held nothing"]


async def test_a_daemon_does_not_bring_a_user_back(reference_table: Database, valkey: Valkey) -> None:
    settings = await installed(reference_table, sinks=[cached(valkey)])
    give(reference_table, USER, OTHER)
    sink = MemorySink()
    async with (
        leading(settings, ("memory", sink)),
        redis.Redis(host=valkey.host, port=valkey.port) as client,
    ):
        await sink.until_credits(USER, 5)
        reference_table.run("DELETE FROM user_credits WHERE user_id = %s", [USER])
        await forget(settings)
        # What the daemon reads after this it reads after all that was on its way.
        give(reference_table, OTHER)
        await sink.until_credits(OTHER, 10)
        async with Line.opened(settings) as line:
            await line.recomputer.recompute([USER], cause="change", republish=False)
        assert traces(reference_table) == []
        assert await client.exists(f"credits:{USER}") == 0
    async with leading(settings, ("memory", MemorySink())):
        assert traces(reference_table) == []


async def test_a_change_that_is_not_read_yet_does_not_bring_a_user_back(reference_table: Database) -> None:
    settings = await installed(reference_table)
    give(reference_table, USER)
    async with Line.settled(settings) as line:
        reference_table.run("DELETE FROM user_credits WHERE user_id = %s", [USER])
        await forget(settings)
        assert await line.settle() == []
        # The delete of an application that was slower than we were.
        reference_table.run("INSERT INTO creditsd.changes (user_id) VALUES (%s)", [USER])
        assert await line.settle() == []
        assert "balances" not in traces(reference_table)


async def test_a_user_who_comes_back_has_a_higher_version(reference_table: Database) -> None:
    settings = await installed(reference_table)
    give(reference_table, USER)
    async with Line.opened(settings) as line:
        (before,) = await line.settle()
        await forget(settings)
        give(reference_table, USER)
        (after,) = await line.settle()
        assert (after.version > before.version, after.previous) == (True, None)


async def test_a_resync_under_way_goes_on_where_it_was(reference_table: Database) -> None:
    settings = await installed(reference_table)
    give(reference_table, USER, OTHER)
    async with Line.opened(settings) as line:
        await line.recomputer.resync_next(1)
        reference_table.run("DELETE FROM user_credits WHERE user_id = %s", [USER])
        await forget(settings)
        assert reference_table.run("SELECT strpos(r::text, %s) FROM creditsd.reader AS r", [USER]) == [(0,)]
        await line.settle(1)
        assert list(await line.stored()) == [OTHER]


async def test_what_cannot_be_reached_is_told(reference_table18: Database) -> None:
    secret = "whsec_" + "A" * 32
    sinks = [
        {"name": "gone", "url": "redis://127.0.0.1:1/0"},
        {"name": "lines", "url": "stdout:"},
        {"name": "hook", "url": "webhook+https://example.com/", "secret": secret},
    ]
    settings = await installed(reference_table18, sinks=sinks)
    reference_table18.run("INSERT INTO creditsd.sinks (name) VALUES ('former')")
    give(reference_table18, USER)
    found = await forget(settings)
    assert [(each.sink, each.outcome) for each in found.sinks] == [
        ("gone", "unreachable"),
        ("lines", "cannot forget"),
        ("hook", "cannot forget"),
        ("former", "not configured"),
    ]
    assert (found.unreachable, found.remaining) == (True, 1)


async def test_whoever_holds_the_lock_it_takes_is_named_and_not_waited_for_without_end(
    reference_table: Database,
) -> None:
    settings = await installed(reference_table, lock_wait_seconds=0.3)
    lock = "SELECT pg_advisory_lock('creditsd.balances'::regclass::oid::int4, 561984073)"
    async with reference_table.connect() as holder:
        await holder.execute(lock)
        with pytest.raises(DatabaseUnavailable, match=rf"not free .*\(process {holder.info.backend_pid} "):
            async with asyncio.timeout(20):
                await forget(settings)
    assert (await forget(settings)).balances == 0


async def test_an_id_that_is_none_is_refused(reference_table18: Database) -> None:
    with pytest.raises(InputError, match="is not a user's id"):
        await forget(await installed(reference_table18), "nobody")


async def test_a_restricted_role_is_enough(reference_table: Database) -> None:
    with restricted(reference_table) as (role, seen):
        async with Line.settled(await installed(reference_table, role=role)):
            pass
        give(reference_table, USER)
        settings = configured(seen, role=role)
        async with Line.settled(settings):
            pass
        assert (await forget(settings)).balances == 1


async def test_the_command_warns_of_rows_that_remain(reference_table18: Database) -> None:
    settings = await installed(reference_table18)
    give(reference_table18, USER)
    async with Line.settled(settings):
        pass
    env = environment(CREDITSD_DSN=reference_table18.dsn)
    done = await creditsd("forget", USER, env=env)
    assert (done.code, done.json["balances"]) == (0, 1)
    assert "still has 1 row" in done.err
    done = await creditsd("forget", USER, env=env | {"CREDITSD_SINKS": "redis://127.0.0.1:1/0"})
    assert (done.code, done.json["sinks"][0]["outcome"]) == (69, "unreachable")
