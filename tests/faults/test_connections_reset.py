"""Connections that are reset under load: the sink is unavailable, as for any lost connection, and goes on after."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from creditsd.brokers.connection_loss import loss_named
from creditsd.config.serve_settings import ServeSettings
from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.gateway import sources
from creditsd.gateway.upstream import Timings, Upstream
from creditsd.metrics.counters import FeedMetrics
from creditsd.metrics.registry import registry
from creditsd.sinks import Sink, make
from tests.brokers import BROKERS, broker, publish
from tests.conftest import eventually
from tests.proxy import Proxy
from tests.sinks.harness import VERSION, total
from tests.sinks.kafka_harness import Broker
from tests.sinks.nats_harness import NatsServer
from tests.sinks.valkey import Valkey
from tests.sinks.webhook_harness import SECRET, Receiver

USERS = {"redis": 2000}  # in several calls one after the other; the others need fewer

URLS: dict[str, tuple[str, dict[str, Any]]] = {
    "redis": ("redis://127.0.0.1:{port}/0", {}),
    "nats": ("nats://127.0.0.1:{port}", {}),
    "kafka": ("kafka://127.0.0.1:{port}", {"idempotence": False, "timeout_seconds": 0.5}),
    "webhook": (
        "webhook+http://127.0.0.1:{port}/hook",
        {"secret": SECRET, "allow_cidrs": ["127.0.0.0/8"], "concurrency": 2},
    ),
    "supabase": ("supabase+http://127.0.0.1:{port}", {"key": "sb_secret_x"}),
}

SERVERS: dict[str, type[Any]] = {"redis": Valkey, "nats": NatsServer, "webhook": Receiver, "supabase": Receiver}


@asynccontextmanager
async def behind_a_proxy(scheme: str) -> AsyncIterator[tuple[Proxy, Sink]]:
    """Run the real receiver of a scheme behind a proxy, and a sink that knows the proxy alone."""
    async with Proxy("127.0.0.1", 0) as proxy:
        server: Any = Broker(proxy.port) if scheme == "kafka" else SERVERS[scheme]()
        started = server.start()
        if started is not None:
            await started
        proxy.lead_to("127.0.0.1", server.port)
        url, options = URLS[scheme]
        sink = make(SinkSettings(name="cut", url=url.format(port=proxy.port), options=options))
        try:
            yield proxy, sink
        finally:
            await sink.close()
            stopped = server.stop()
            if stopped is not None:
                await stopped


async def deliver_while_connections_are_reset(scheme: str, tries: int) -> tuple[int, list[str]]:
    """Return how many deliveries failed, and what the loop was told besides: errors nobody awaited."""
    unheard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(str(context)))
    failed, version, users = 0, VERSION, USERS.get(scheme, 100)
    async with behind_a_proxy(scheme) as (proxy, sink):
        await sink.open()
        for number in range(tries):
            proxy.reset_after_bytes = 1 + number * users * 10
            batch = [total(f"u{user}", version + user) for user in range(users)]
            version += users
            try:
                await sink.open()
                failed += bool(await _dropped_meanwhile(proxy, sink, batch, after_turns=number))
            except SinkUnavailable:
                failed += 1
        proxy.reset_after_bytes = None
        await proxy.drop()
        await sink.open()
        assert list(await sink.deliver([total("u1", version)])) == []
    return failed, unheard


async def _dropped_meanwhile(proxy: Proxy, sink: Sink, batch: Sequence[Total], *, after_turns: int) -> bool:
    """Deliver, and drop all connections after so many turns of the loop; tell whether something was refused."""
    delivering = asyncio.ensure_future(sink.deliver(batch))
    for _ in range(after_turns):
        await asyncio.sleep(0)
    await proxy.drop()
    return bool(await delivering)


@pytest.mark.parametrize("scheme", URLS)
def test_a_sink_whose_connections_are_reset_is_unavailable_and_nothing_worse(scheme: str) -> None:
    tries = 8 if scheme == "kafka" else 40  # it tries again by itself until its time is out
    failed, unheard = uvloop.run(deliver_while_connections_are_reset(scheme, tries))  # as the daemon runs
    assert failed > tries // 4
    assert unheard == []


async def read_while_connections_are_dropped(kind: str) -> None:
    """Serve readers from a feed whose connections end in the middle of what it does."""
    async with broker(kind) as server, Proxy("127.0.0.1", server.port) as proxy:
        await publish(server, "u1", version=7)
        feed = ServeSettings(feed=f"{kind}://127.0.0.1:{proxy.port}")
        upstream = Upstream(
            sources.make(feed),
            FeedMetrics(registry()),
            user_id_type="text",
            sweep_seconds=60,
            timings=Timings(first_pause_seconds=0.001, longest_pause_seconds=0.01),
        )
        running = asyncio.ensure_future(upstream.run(lambda *_: None))

        async def error() -> str | None:
            assert not running.done(), running.exception()
            return upstream.error

        for turns in range(30):
            await eventually(error, lambda found: found is None)
            asking = [asyncio.ensure_future(each) for each in (upstream.read("u1"), upstream.watch(f"u{turns}"))]
            for _ in range(turns):
                await asyncio.sleep(0)
            await proxy.drop()
            for answer in await asyncio.gather(*asking, return_exceptions=True):
                assert isinstance(answer, SinkUnavailable | tuple | None), answer

        async def version() -> int | None:
            with contextlib.suppress(SinkUnavailable):  # the last loss may not have been noticed yet
                found = await upstream.read("u1")
                return None if found is None else found[0]
            return None

        await eventually(version, lambda found: found == 7)
        running.cancel()
        await asyncio.wait([running])
        await upstream.close()


@pytest.mark.parametrize("kind", BROKERS)
def test_a_gateway_whose_feed_is_reset_connects_again_and_serves(kind: str) -> None:
    uvloop.run(read_while_connections_are_dropped(kind))


def test_another_runtime_error_is_a_bug_and_stays_one() -> None:
    with pytest.raises(RuntimeError, match="a bug"), loss_named():
        raise RuntimeError("a bug")
