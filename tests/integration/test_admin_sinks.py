"""sinks list, test, pause, resume, enable."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import redis.asyncio as redis

from creditsd.admin.sinks import ListedSink, SinkControl, Trial
from creditsd.config.settings import Settings
from creditsd.domain.errors import InputError, SinkRejected, SinkUnavailable
from tests.acceptance.command import creditsd, environment
from tests.conftest import Database
from tests.integration.leading import restricted
from tests.integration.line import USER, Line, configured, installed
from tests.servers import Valkey

NOBODY = "00000000-0000-0000-0000-000000000000"


async def listed(settings: Settings) -> dict[str, ListedSink]:
    async with SinkControl.opened(settings) as control:
        return {each.name: each for each in await control.list()}


async def send(settings: Settings, name: str = "cache") -> Trial:
    async with SinkControl.opened(settings) as control:
        return await control.test(name)


async def turned(settings: Settings, what: str, name: str) -> None:
    async with SinkControl.opened(settings) as control:
        await getattr(control, what)(name)


async def test_a_list_has_the_configured_sinks_and_those_only_the_database_knows(reference_table: Database) -> None:
    settings = await installed(
        reference_table,
        sinks=[{"name": "lines", "url": "stdout:"}, {"name": "cache", "url": "redis://127.0.0.1:1/0"}],
    )
    reference_table.run("INSERT INTO user_credits (user_id, credits) VALUES (%s, 5)", [USER])
    async with Line.settled(settings):
        pass
    reference_table.run("INSERT INTO creditsd.sinks (name, last_error) VALUES ('cache', 'down'), ('former', NULL)")
    reference_table.run(
        "INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, next_at, last_error) "
        "VALUES ('cache', %s, 1, 1, now(), 'no'), ('cache', gen_random_uuid(), 1, 1, NULL, 'no')",
        [USER],
    )
    found = await listed(settings)
    assert {name: (each.scheme, each.state) for name, each in found.items()} == {
        "lines": ("stdout", "new"),
        "cache": ("redis", "failing"),
        "former": (None, "not configured"),
    }
    cache = found["cache"]
    assert (cache.queue, cache.refused, cache.dead, cache.last_error) == (1, 1, 1, "down")


async def test_a_sink_is_paused_before_its_first_delivery_and_resumed(reference_table: Database) -> None:
    settings = await installed(reference_table, sinks=[{"name": "lines", "url": "stdout:"}])
    async with reference_table.connect() as listener:
        await listener.execute("LISTEN creditsd")
        await turned(settings, "pause", "lines")
        first = (await listed(settings))["lines"]
        await turned(settings, "pause", "lines")
        assert (await listed(settings))["lines"] == first
        assert (first.state, first.paused_at is not None) == ("paused", True)
        await turned(settings, "resume", "lines")
        assert (await listed(settings))["lines"].state == "current"
        heard = [each.payload async for each in listener.notifies(timeout=60, stop_after=3)]
        assert heard == ["sinks"] * 3


async def test_a_disabled_sink_is_enabled_by_either_word(reference_table18: Database) -> None:
    settings = await installed(reference_table18, sinks=[{"name": "hook", "url": "stdout:"}])
    env = environment(CREDITSD_DSN=reference_table18.dsn, CREDITSD_SINKS='[{"name": "hook", "url": "stdout:"}]')
    for word in ("enable", "resume"):
        reference_table18.run(
            "INSERT INTO creditsd.sinks (name, disabled_reason) VALUES ('hook', 'answered 410') "
            "ON CONFLICT (name) DO UPDATE SET disabled_reason = excluded.disabled_reason"
        )
        assert (await listed(settings))["hook"].state == "disabled"
        assert (await creditsd("sinks", word, "hook", env=env)).code == 0
        assert (await listed(settings))["hook"].state == "current"


async def test_an_unknown_sink_is_refused_with_the_nearest_name(reference_table18: Database) -> None:
    settings = await installed(reference_table18, sinks=[{"name": "cache", "url": "redis://127.0.0.1:1/0"}])
    for what in ("pause", "resume", "test"):
        with pytest.raises(InputError, match="did you mean cache"):
            await turned(settings, what, "cahce")
    assert reference_table18.run("SELECT FROM creditsd.sinks") == []


async def test_a_test_message_is_published_and_leaves_nothing_behind(reference_table: Database, valkey: Valkey) -> None:
    sink = {"name": "cache", "url": valkey.url, "stream": "totals"}
    settings = await installed(reference_table, sinks=[sink])
    async with redis.Redis(host=valkey.host, port=valkey.port) as client, client.pubsub() as heard:
        await heard.psubscribe("credits:*")
        await heard.get_message(timeout=60)
        for _ in range(2):
            found = await send(settings)
            assert (found.user_id, found.left) == (NOBODY, "it was erased there")
            message: Any = await heard.get_message(ignore_subscribe_messages=True, timeout=60)
            total = orjson.loads(message["data"])
            assert (total["user_id"], total["version"], total["membership"]) == (NOBODY, 0, "creditsd test")
        assert await client.keys("credits:*") == []
        assert await client.xlen("totals") == 0


async def test_a_test_message_never_takes_the_place_of_a_total(database18: Database, valkey: Valkey) -> None:
    database18.run("CREATE TABLE user_credits (user_id bigint, credits integer, status text)")
    settings = await installed(database18, sinks=[{"name": "cache", "url": valkey.url}])
    async with redis.Redis(host=valkey.host, port=valkey.port) as client:
        total = b'{"user_id":"0","version":17,"credits":5}'
        await client.set("credits:0", total)
        assert (await send(settings)).user_id == "0"
        assert await client.get("credits:0") == total


async def test_what_came_back_is_said(reference_table18: Database, valkey: Valkey) -> None:
    settings = await installed(
        reference_table18,
        sinks=[
            {"name": "cache", "url": valkey.url},
            {"name": "gone", "url": "redis://127.0.0.1:1/0"},
        ],
    )
    with pytest.raises(SinkUnavailable, match="gone"):
        await send(settings, "gone")
    async with redis.Redis(host=valkey.host, port=valkey.port) as client:
        await client.rpush(f"credits:{NOBODY}", "x")
        with pytest.raises(SinkRejected, match=r"cache refused the test message.*not a string"):
            await send(settings)
        assert await client.llen(f"credits:{NOBODY}") == 1


async def test_a_restricted_role_may_turn_and_list(reference_table: Database) -> None:
    with restricted(reference_table) as (role, seen):
        await installed(reference_table, role=role)
        settings = configured(seen, role=role, sinks=[{"name": "lines", "url": "stdout:"}])
        await turned(settings, "pause", "lines")
        assert (await listed(settings))["lines"].state == "paused"


async def test_the_commands_print_json_lines_and_exit_as_they_should(
    reference_table18: Database, valkey: Valkey
) -> None:
    await installed(reference_table18)
    sinks = orjson.dumps([{"name": "cache", "url": valkey.url}, {"name": "gone", "url": "redis://127.0.0.1:1/0"}])
    env = environment(CREDITSD_DSN=reference_table18.dsn, CREDITSD_SINKS=sinks.decode())
    done = await creditsd("sinks", "list", env=env)
    assert [orjson.loads(line)["name"] for line in done.out.splitlines()] == ["cache", "gone"]
    assert (await creditsd("sinks", "test", "cache", env=env)).json["sink"] == "cache"
    done = await creditsd("sinks", "test", "gone", env=env)
    assert (done.code, done.out, done.err.count("\n")) == (69, "", 1)
    assert (await creditsd("sinks", "pause", "nothing", env=env)).code == 65
