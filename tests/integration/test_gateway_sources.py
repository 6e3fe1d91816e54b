"""A source of the gateway hears and reads what the sink writes, in every arrangement of servers the sink knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from creditsd.config.serve_settings import ServeSettings
from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.gateway.sources import BrokerSource, make, version_of
from creditsd.sinks import make as make_sink
from tests.beside import beside
from tests.sinks.nats_harness import NatsServer
from tests.sinks.redis_cluster_harness import Cluster
from tests.sinks.redis_sentinel_harness import Watched
from tests.sinks.valkey import Valkey

PASSWORD = "s3cr3t/pass:word@x"


@asynccontextmanager
async def cluster() -> AsyncIterator[str]:
    servers = Cluster(PASSWORD)
    await servers.start()
    try:
        yield servers.url
    finally:
        servers.stop()


@asynccontextmanager
async def sentinels() -> AsyncIterator[str]:
    servers = Watched()
    await servers.start()
    try:
        yield servers.url
    finally:
        servers.stop()


@asynccontextmanager
async def alone(server: Valkey | NatsServer) -> AsyncIterator[str]:
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[tuple[BrokerSource, asyncio.Queue[tuple[str, bytes]]]]:
    """Open a source, and gather what it hears."""
    source = make(ServeSettings(feed=url, **options))
    come: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def listen() -> None:
        while True:
            for each in await source.heard():
                come.put_nowait(each)

    await source.open()
    try:
        async with beside(listen()):
            yield source, come
    finally:
        await source.close()


@pytest.mark.parametrize(
    ("servers", "options"),
    [
        (cluster, {}),
        (sentinels, {}),
        (lambda: alone(Valkey(PASSWORD)), {"prefix": "shop/"}),
        (lambda: alone(NatsServer(password=PASSWORD)), {"stream": "SHOP", "subject": "shop.credits"}),
        (lambda: alone(NatsServer()), {"bucket": "credits"}),
    ],
    ids=["cluster", "sentinels", "prefix", "subject", "bucket"],
)
async def test_what_a_sink_writes_is_heard_and_read(servers: Any, options: dict[str, str]) -> None:
    users = ["ann", "bob", "o'neil / ü", "cyd"]
    async with servers() as url:
        sink = make_sink(SinkSettings(name="feed", url=url, options=options))
        await sink.deliver([Total.nothing("ann")._replace(version=1)])
        async with opened(url, **options) as (source, come), asyncio.timeout(60):
            await source.subscribe(users[:3])
            assert [each and version_of("ann", each) for each in await source.newest(["ann", "bob"])] == [1, None]
            for number, user_id in enumerate(users, start=2):
                await sink.deliver([Total.nothing(user_id)._replace(version=number)])
            found = dict([await come.get() for _ in range(3)])
            assert [version_of(user_id, document) for user_id, document in sorted(found.items())] == [2, 3, 4]
            await source.unsubscribe(["ann"])
            await sink.deliver([Total.nothing("ann")._replace(version=8)])
            await sink.deliver([Total.nothing("bob")._replace(version=9)])
            assert version_of("bob", (await come.get())[1]) == 9
            assert [each and version_of("ann", each) for each in await source.newest(["ann"])] == [8]
        await sink.close()


async def test_what_a_server_refuses_is_told_without_the_password() -> None:
    async with alone(Valkey(PASSWORD)) as url:
        source = make(ServeSettings(feed=url.replace("s3cr3t", "wrong")))
        with pytest.raises(SinkUnavailable, match=r"serve\.feed: .*it refuses the user or password") as refused:
            await source.open()
        await source.close()
        assert "wrong" not in str(refused.value)


async def test_a_stream_that_no_sink_has_made_yet_is_told() -> None:
    async with alone(NatsServer()) as url, opened(url) as (source, _):
        with pytest.raises(SinkUnavailable, match="no such stream yet"):
            await source.newest(["ann"])
