"""What the redis sink sends before anybody waits for the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from creditsd.domain.errors import SinkUnavailable
from creditsd.sinks import Beginning
from creditsd.sinks.redis import RedisSink
from tests.conftest import eventually
from tests.sinks.harness import VERSION, total
from tests.sinks.test_redis import opened
from tests.sinks.valkey import Valkey


def beginning(sink: object) -> RedisSink:
    assert isinstance(sink, RedisSink)
    assert isinstance(sink, Beginning)
    return sink


async def version(server: Valkey, user_id: str) -> int | None:
    async with opened(server.url) as other:
        return await other.held(user_id)


async def test_it_arrives_before_anybody_asks_for_the_answer_which_is_then_read(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as opened_sink:
        sink = beginning(opened_sink)
        assert not sink.begin([total()]), "there is no connection yet"
        await sink.deliver([total()])
        newer = total(version=VERSION + 1)
        assert sink.begin([newer])
        await eventually(lambda: version(sink_valkey, "u1"), lambda found: found == VERSION + 1)
        assert not await sink.deliver([newer])
        assert sink.begin([total(version=VERSION + 2), total("u2")])
        assert not await sink.deliver([total(version=VERSION + 2), total("u2")])
        assert await sink.held("u1") == VERSION + 2


async def test_a_refusal_is_told_by_whoever_delivers(sink_valkey: Valkey) -> None:
    sink_valkey.client().lpush("credits:u2", "somebody else's")
    async with opened(sink_valkey.url) as opened_sink:
        sink = beginning(opened_sink)
        await sink.deliver([total()])
        assert sink.begin([total(version=VERSION + 1), total("u2")])
        (rejection,) = await sink.deliver([total(version=VERSION + 1), total("u2")])
        assert rejection.total.user_id == "u2"


async def test_a_script_that_the_server_has_lost_is_loaded_again(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as opened_sink:
        sink = beginning(opened_sink)
        await sink.deliver([total()])
        sink_valkey.client().script_flush()
        assert sink.begin([total(version=VERSION + 1)])
        assert not await sink.deliver([total(version=VERSION + 1)])
        assert await sink.held("u1") == VERSION + 1


async def test_an_answer_that_nobody_reads_is_taken_for_no_other(sink_valkey: Valkey) -> None:
    sink_valkey.client().lpush("credits:u2", "somebody else's")
    async with opened(sink_valkey.url) as opened_sink:
        sink = beginning(opened_sink)
        await sink.deliver([total()])
        assert sink.begin([total("u2")])
        assert not sink.begin([total("u3")]), "one at a time"
        assert not await sink.deliver([total("u3")])
        assert await sink.held("u3") == VERSION
        (rejection,) = await sink.deliver([total("u2")])
        assert rejection.total.user_id == "u2"


async def test_a_connection_that_the_server_has_closed_is_made_anew_without_a_word(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as opened_sink:
        sink = beginning(opened_sink)
        await sink.deliver([total()])
        client = sink_valkey.client()
        client.client_kill_filter(_type="normal", skipme=True)
        server: Any = sink._server

        async def lost() -> bool:
            return server.kept._writer is None

        await eventually(lost)
        assert not sink.begin([total(version=VERSION + 1)])
        assert not await sink.deliver([total(version=VERSION + 1)])
        assert sink.begin([total(version=VERSION + 2)])
        assert not await sink.deliver([total(version=VERSION + 2)])
        assert await sink.held("u1") == VERSION + 2


async def test_a_server_that_is_gone_in_between_is_the_deliverys_failure(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as opened_sink:
        sink = beginning(opened_sink)
        await sink.deliver([total()])
        sink_valkey.hang()
        assert sink.begin([total(version=VERSION + 1)])
        delivering = asyncio.ensure_future(sink.deliver([total(version=VERSION + 1)]))
        await asyncio.sleep(0)
        sink_valkey.stop()
        with pytest.raises(SinkUnavailable, match="sink cache: "):
            await delivering
        assert not sink.begin([total(version=VERSION + 1)])
        sink_valkey.start()
        await sink.open()
        assert not await sink.deliver([total(version=VERSION + 1)])


async def test_a_sink_that_is_closed_over_what_was_begun_delivers_it_anew(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as opened_sink:
        sink = beginning(opened_sink)
        await sink.deliver([total()])
        assert sink.begin([total("u2")])
        await sink.close()
        await sink.open()
        assert not await sink.deliver([total("u2")])
        assert await sink.held("u2") == VERSION


async def test_more_than_one_call_takes_is_not_begun(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as opened_sink:
        sink = beginning(opened_sink)
        await sink.deliver([total()])
        assert not sink.begin([total(f"u{number}") for number in range(129)])
        assert sink.begin([total(f"u{number}") for number in range(128)])
        assert not await sink.deliver([total(f"u{number}") for number in range(128)])


async def test_all_that_is_sent_goes_over_one_connection(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as opened_sink:
        sink = beginning(opened_sink)
        client = sink_valkey.client()
        client.ping()
        for step in range(3):
            await sink.deliver([total(version=VERSION + 2 * step)])
            assert sink.begin([total(version=VERSION + 2 * step + 1)])
            assert not await sink.deliver([total(version=VERSION + 2 * step + 1)])
            await sink.held("u1")
        assert len(client.client_list()) == 2, "ours, and the one that asks"
