from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from creditsd.config.serve_settings import ServeSettings
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.domain.total import Total
from creditsd.gateway.sources import BrokerSource, make, version_of
from creditsd.gateway.upstream import Upstream
from creditsd.http.hub import Hub
from creditsd.metrics.counters import FeedMetrics
from creditsd.metrics.registry import registry
from tests.brokers import BROKERS, Broker, broker, publish
from tests.conftest import eventually
from tests.sinks.valkey import Valkey


@pytest.fixture
def sink_valkey() -> Iterator[Valkey]:
    """A server of the test's own."""
    server = Valkey()
    server.start()
    yield server
    server.stop()


class Watched:
    """A real source that counts how often it is asked, and lets a test act before it reads."""

    def __init__(self, source: BrokerSource) -> None:
        self._source = source
        self.max_batch = source.max_batch
        self.subscriptions = 0
        self.readings = 0
        self.before_reading: Any = None

    async def open(self) -> None:
        await self._source.open()

    async def subscribe(self, user_ids: Sequence[str]) -> None:
        self.subscriptions += 1
        await self._source.subscribe(user_ids)

    async def unsubscribe(self, user_ids: Sequence[str]) -> None:
        await self._source.unsubscribe(user_ids)

    async def heard(self) -> Sequence[tuple[str, bytes]]:
        return await self._source.heard()

    async def newest(self, user_ids: Sequence[str]) -> Sequence[bytes | None]:
        self.readings += 1
        act, self.before_reading = self.before_reading, None
        if act is not None:
            await act()
        return await self._source.newest(user_ids)

    async def close(self) -> None:
        await self._source.close()


@asynccontextmanager
async def subscribed(server: Broker, **settings: Any) -> AsyncIterator[tuple[Upstream, Hub, Watched]]:
    """Run an upstream, connected, with a hub that it fills."""
    made = ServeSettings(feed=server.url, **settings)
    source = Watched(make(made))
    upstream = Upstream(
        source, FeedMetrics(registry()), user_id_type=made.user_id_type, sweep_seconds=made.sweep_seconds
    )
    hub = Hub(upstream)
    running = asyncio.create_task(upstream.run(hub.offer))
    try:
        await until_connected(upstream)
        yield upstream, hub, source
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await upstream.close()


async def until_connected(upstream: Upstream) -> None:
    async def problem() -> str | None:
        return upstream.error

    await eventually(problem, lambda found: found is None, 30)


async def heard(listener: Any, version: int) -> None:
    """Wait until a listener has a version."""
    async with asyncio.timeout(60):
        while (found := await listener.next()) is None or found[0] < version:
            pass
    assert found[0] == version


@pytest.mark.parametrize("kind", BROKERS)
async def test_what_changes_between_subscribing_and_reading_is_heard(kind: str) -> None:
    async with broker(kind) as server, subscribed(server) as (upstream, hub, source):
        await publish(server, "ann", version=1)
        source.before_reading = lambda: publish(server, "ann", version=2)
        async with hub.listening("ann") as listener:
            await heard(listener, 2)
            await publish(server, "ann", version=3)
            await heard(listener, 3)
        # And one that comes between the reading and its answer, on the subscription alone.
        async with hub.listening("ann") as listener:
            await publish(server, "ann", version=4)
            await heard(listener, 4)
        assert upstream.error is None


@pytest.mark.parametrize("kind", BROKERS)
async def test_whoever_was_listened_to_while_the_feed_was_gone_is_told(kind: str) -> None:
    async with (
        broker(kind) as server,
        subscribed(server) as (upstream, hub, _),
        hub.listening("ann") as ann,
        hub.listening("bob") as bob,
        hub.listening("o'neil / ü") as other,
    ):
        for listener in (ann, bob, other):
            await heard(listener, 0)
        server.stop()

        async def problem() -> str | None:
            return upstream.error

        assert "serve.feed" in str(await eventually(problem, bool, 30))
        with pytest.raises(SinkUnavailable):
            await hub.read("ann")
        with pytest.raises(SinkUnavailable):
            async with hub.listening("cyd"):
                pass
        server.start()
        await publish(server, "ann", version=7)
        await publish(server, "o'neil / ü", version=8)
        await heard(ann, 7)
        await heard(other, 8)
        await until_connected(upstream)
        await publish(server, "bob", version=9)
        await heard(bob, 9)
        async with hub.listening("cyd") as cyd:
            await publish(server, "cyd", version=10)
            await heard(cyd, 10)


async def test_a_feed_that_hangs_is_lost_too(sink_valkey: Valkey) -> None:
    async with subscribed(sink_valkey) as (upstream, _, source):
        source._source._timeout_seconds = 0.2  # type: ignore[attr-defined]  # not 5 seconds, twice
        sink_valkey.hang()

        async def problem() -> str | None:
            return upstream.error

        assert "no answer in time" in str(await eventually(problem, bool, 30))


async def test_thousands_are_subscribed_in_few_steps_and_left_again(sink_valkey: Valkey) -> None:
    client = sink_valkey.client()

    async def channels() -> int:
        return len(client.pubsub_channels("credits:*"))

    async with subscribed(sink_valkey) as (_, hub, source):
        async with contextlib.AsyncExitStack() as stack:
            users = [f"user {number}" for number in range(3000)]
            listeners = await asyncio.gather(*(stack.enter_async_context(hub.listening(user)) for user in users))
            assert await channels() == 3000
            assert source.subscriptions <= 20
            assert source.readings <= 60
            again = await stack.enter_async_context(hub.listening(users[7]))
            await publish(sink_valkey, users[7], version=5)
            await heard(listeners[7], 5)
            await heard(again, 5)
            assert listeners[8]._newest is not None
            assert listeners[8]._newest[0] == 0
        await eventually(channels, lambda found: found == 0)
        async with hub.listening(users[7]) as listener:
            await heard(listener, 5)


async def test_what_was_not_heard_is_read_by_the_sweep(sink_valkey: Valkey) -> None:
    async with subscribed(sink_valkey, sweep_seconds=0.05) as (_, hub, _source), hub.listening("ann") as listener:
        await heard(listener, 0)
        total = Total.nothing("ann").json().replace(b'"version":0', b'"version":6')
        sink_valkey.client().set("credits:ann", total)  # stored, and never published
        await heard(listener, 6)


async def test_another_users_total_and_what_is_none_is_told_to_nobody(sink_valkey: Valkey) -> None:
    client = sink_valkey.client()
    async with subscribed(sink_valkey) as (_, hub, _source), hub.listening("ann") as listener:
        await heard(listener, 0)
        foreign = Total.nothing("bob").json().replace(b'"version":0', b'"version":9')
        for message in (
            foreign,
            b"",
            b"hello",
            b'{"user_id":"ann","version":true}',
            b'{"user_id":"ann","version":8,\n}',
        ):
            client.publish("credits:ann", message)
        client.set("credits:bob", foreign.replace(b"bob", b"cyd"))
        assert (await hub.read("bob"))[0] == 0
        client.delete("credits:bob")
        client.lpush("credits:bob", "a list of another program")
        assert (await hub.read("bob"))[0] == 0
        await publish(sink_valkey, "ann", version=1)
        found = await listener.next(20)
        assert found is not None
        assert found[0] == 1


async def test_ids_of_a_type_are_one_user_however_they_are_written(sink_valkey: Valkey) -> None:
    async with subscribed(sink_valkey, user_id_type="uuid") as (_, hub, _source):
        assert hub.canonical("AAAAAAAA-0000-0000-0000-00000000000F") == "aaaaaaaa-0000-0000-0000-00000000000f"


def test_the_version_of_a_total_is_its_own() -> None:
    document = Total.nothing('a","version":9,"').json()
    assert version_of('a","version":9,"', document) == 0
    assert version_of("a", document) is None


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({}, "CREDITSD_SERVE__FEED"),
        ({"feed": "kafka://h"}, "kafka is no feed: use one of nats, redis"),
        ({"feed": "redis+x://h"}, "serve.feed: redis+x is not supported"),
        ({"feed": "redis://h:p:ort"}, "serve.feed: the url is not redis://"),
        ({"feed": "nats://h:1:2"}, "serve.feed: the url is not nats://"),
        ({"feed": "redis://h", "bucket": "b"}, "serve.bucket means nothing to this feed"),
        ({"feed": "nats://h", "prefix": "b"}, "serve.prefix means nothing to this feed"),
        ({"feed": "nats://h", "subject": "a b"}, "serve.subject: "),
        ({"feed": "nats://h", "bucket": "b", "stream": "S"}, "totals go to a bucket or to a stream"),
        ({"feed": "rediss://h", "ca": "none"}, "serve.feed: ca is not a certificate in PEM"),
        ({"feed": "nats://u:p@h", "token": "t"}, "serve.feed: the url has a login, and so do the options"),
    ],
)
def test_a_wrong_feed_is_one_line(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(line)) as raised:
        make(ServeSettings(**settings))
    assert "\n" not in str(raised.value)
