"""Two installations that would write at one place: the second stands still, and says why."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from creditsd.brokers.redis import reach
from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.owner import Owner
from creditsd.sinks import Doubtful, Owned, Sink, make
from creditsd.sinks.redis import Options, RedisSink
from tests.sinks.harness import total
from tests.sinks.valkey import Valkey

FIRST, SECOND = Owner("creditsd", "7.16384"), Owner("creditsd_images", "7.16384")
COPY = Owner("creditsd", "7.16999")
ELSEWHERE = Owner("creditsd", "8.16384")


def made(url: str, owner: Owner, **options: Any) -> Sink:
    sink = make(SinkSettings(name="cache", url=url, options=options))
    cast("Owned", sink).own(owner)
    return sink


@contextlib.asynccontextmanager
async def opened(url: str, owner: Owner, **options: Any) -> AsyncIterator[Sink]:
    sink = made(url, owner, **options)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


async def delivered(sink: Sink, user_id: str) -> None:
    """Deliver, once more where the connection turns out to be lost."""
    try:
        await sink.deliver([total(user_id)])
    except SinkUnavailable as error:
        if "installation" in str(error):
            raise
        await sink.deliver([total(user_id)])


@contextlib.contextmanager
def refused(said: str = "another prefix") -> Any:
    with pytest.raises(SinkUnavailable, match=said) as caught:
        yield caught


async def test_the_second_installation_at_one_prefix_is_refused_with_what_to_do(sink_valkey: Valkey) -> None:
    second = made(sink_valkey.url, SECOND)
    async with opened(sink_valkey.url, FIRST) as first:
        for _ in range(2):
            with refused("creditsd writes at the prefix 'credits:' already") as caught:
                await second.open()
            assert str(caught.value).endswith(
                "and this is creditsd_images: give this sink another prefix, then run `creditsd verify --sink NAME "
                "--repair` in both installations"
            )
        assert await first.deliver([total()]) == []
        assert sink_valkey.client().dbsize() == 1
    await second.open()  # whoever is gone holds nobody up
    await second.close()


async def test_whoever_is_refused_leaves_no_name_that_would_hold_the_first_one_up(sink_valkey: Valkey) -> None:
    second = made(sink_valkey.url, SECOND)
    async with opened(sink_valkey.url, FIRST) as first:
        with refused():
            await second.open()
        sink_valkey.client().client_kill_filter(_type="normal", skipme=True)
        await delivered(first, "u1")
        with refused():
            await second.open()


@pytest.mark.parametrize("other", [COPY, ELSEWHERE])
async def test_one_of_the_same_name_in_another_database_is_another_one(sink_valkey: Valkey, other: Owner) -> None:
    async with opened(sink_valkey.url, FIRST):
        with refused() as caught:
            await made(sink_valkey.url, other).open()
    assert "the installation creditsd of another database (7.16384) writes" in str(caught.value)
    assert f"and this is creditsd of {other.database}:" in str(caught.value)


async def test_two_at_one_stream_meet_too(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url, FIRST, prefix="my credits:", stream="the totals"):
        with refused("creditsd writes at the stream 'the totals' already") as caught:
            await made(sink_valkey.url, SECOND, prefix="my images:", stream="the totals").open()
        assert str(caught.value).endswith("give this sink another stream")
        for more in ({"stream": "of images"}, {}):
            async with opened(sink_valkey.url, SECOND, prefix="my images:", **more) as second:
                assert await second.deliver([total()]) == []


async def test_another_prefix_another_database_and_the_same_installation_pass(sink_valkey: Valkey) -> None:
    elsewhere = sink_valkey.url.removesuffix("/0") + "/1"
    async with (
        opened(sink_valkey.url, FIRST, prefix="my credits:") as first,
        opened(sink_valkey.url, SECOND, prefix="my images:"),
        opened(elsewhere, SECOND, prefix="my credits:"),
        opened(sink_valkey.url, FIRST, prefix="my credits:") as again,
    ):
        for each in (first, again):
            assert await each.deliver([total()]) == []


async def test_a_connection_that_is_made_anew_within_a_delivery_has_its_name(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url, FIRST) as first:
        sink_valkey.client().client_kill_filter(_type="normal", skipme=True)
        await delivered(first, "u1")
        with refused():
            await made(sink_valkey.url, SECOND).open()


async def test_a_connection_that_is_made_anew_writes_nothing_where_another_one_has_come(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url, FIRST) as first:
        sink_valkey.client().client_kill_filter(_type="normal", skipme=True)
        async with opened(sink_valkey.url, SECOND):
            with refused("creditsd_images writes at the prefix"):
                await delivered(first, "u1")
    assert sink_valkey.client().dbsize() == 0


async def test_one_that_was_not_to_be_seen_yet_is_seen_with_the_next_look(sink_valkey: Valkey) -> None:
    older = sink_valkey.client()
    older.ping()
    sink = RedisSink("cache", reach("sink cache", sink_valkey.url, Options()), Options(), look_seconds=0.0)
    sink.own(FIRST)
    try:
        await sink.open()
        assert await sink.deliver([total()]) == []
        older.execute_command("CLIENT", "SETNAME", "creditsd:creditsd_images:7.16384:credits%3A:")
        with refused("creditsd_images writes at the prefix"):
            await sink.deliver([total("u2")])
    finally:
        await sink.close()
    assert older.keys() == ["credits:u1"]


async def test_of_two_that_come_in_the_same_moment_not_both_stay(sink_valkey: Valkey) -> None:
    connected, named = asyncio.Event(), asyncio.Event()
    server = reach("sink cache", sink_valkey.url, Options())
    older = RedisSink("cache", server, Options())
    older.own(FIRST)
    kwargs = server.client.connection_pool.connection_kwargs
    greet = kwargs["redis_connect_func"]

    async def later(connection: Any) -> None:
        connected.set()
        await named.wait()
        await greet(connection)

    kwargs["redis_connect_func"] = later
    opening = asyncio.create_task(older.open())
    await connected.wait()
    async with opened(sink_valkey.url, SECOND) as younger:
        named.set()
        with refused("creditsd_images writes at the prefix"):
            await opening
        assert await younger.deliver([total()]) == []


async def test_one_that_came_later_does_not_stop_who_was_first(sink_valkey: Valkey) -> None:
    sink = RedisSink("cache", reach("sink cache", sink_valkey.url, Options()), Options(), look_seconds=0.0)
    sink.own(FIRST)
    try:
        await sink.open()
        sink_valkey.client().execute_command("CLIENT", "SETNAME", "creditsd:creditsd_images:7.16384:credits%3A:")
        assert await sink.deliver([total()]) == []
    finally:
        await sink.close()


async def test_a_user_that_may_not_ask_delivers_all_the_same_and_says_so_once(sink_valkey: Valkey) -> None:
    rights: list[Any] = ["+evalsha", "+script|load", "+get", "+set", "+publish"]
    sink_valkey.client().execute_command("ACL", "SETUSER", "bound", "on", ">pw", "~credits:*", "&credits:*", *rights)
    sink = made(sink_valkey.url.replace("redis://", "redis://bound:pw@", 1), FIRST)
    try:
        with capture_logs() as logs:
            await sink.open()
            await sink.open()
        assert [each["event"] for each in logs] == ["redis.neighbours_unseen"]
        assert "+client|setname +client|list" in logs[0]["reason"]
        assert cast("Doubtful", sink).doubts == [logs[0]["reason"]]
        assert await sink.deliver([total()]) == []
    finally:
        await sink.close()
        sink_valkey.client().execute_command("ACL", "DELUSER", "bound")


async def test_a_user_that_may_ask_has_nothing_to_say(sink_valkey: Valkey) -> None:
    with capture_logs() as logs:
        async with opened(sink_valkey.url, FIRST) as sink:
            assert cast("Doubtful", sink).doubts == []
    assert logs == []
