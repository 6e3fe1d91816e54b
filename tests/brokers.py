"""What a gateway listens to in tests: a real broker, and the real sink that publishes to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Protocol

from creditsd.config.settings import SinkSettings
from creditsd.domain.total import Total
from creditsd.sinks import make
from tests.sinks.nats_harness import NatsServer
from tests.sinks.valkey import Valkey


class Broker(Protocol):
    """A server that can be taken away."""

    port: int

    @property
    def url(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def hang(self) -> None: ...


class Nats(NatsServer):
    """One that keeps its files while it is away."""

    def stop(self) -> None:
        self.go_away()


BROKERS = ("redis", "nats")


@asynccontextmanager
async def broker(kind: str) -> AsyncIterator[Broker]:
    """Run a server for as long as the block lasts; a sink has been there, as it has in life."""
    server: Broker = Valkey() if kind == "redis" else Nats()
    server.start()
    try:
        await publish(server, "somebody else", version=1)
        yield server
    finally:
        server.stop()
        if isinstance(server, NatsServer):
            NatsServer.stop(server)


@asynccontextmanager
async def publishing(server: Broker) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Publish totals as the daemon does, over one connection."""
    sink = make(SinkSettings(name="feed", url=server.url))

    async def put(user_id: str, *, version: int, amount: int = 0, plan: str | None = None) -> None:
        nothing, credits_ = Total.nothing(user_id), Decimal(amount)
        total = nothing._replace(version=version, credits=credits_, membership_status="active", membership=plan)
        assert not await sink.deliver([total])

    try:
        yield put
    finally:
        await sink.close()


async def publish(server: Broker, user_id: str, *, version: int, amount: int = 0) -> None:
    """Publish one total."""
    async with publishing(server) as put:
        await put(user_id, version=version, amount=amount)
