from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook as Verifier

from creditsd.config.settings import SinkSettings
from creditsd.sinks import Sink, make
from tests.workshop import free_port

KEY = base64.b64encode(b"thirty-two bytes of a test's key").decode()
SECRET = f"whsec_{KEY}"
PASSWORD = "s3cr3tpass"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def accept(request: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


@dataclass
class Delivery:
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.body, parse_float=Decimal))

    @property
    def data(self) -> dict[str, Any]:
        return dict(self.document["data"])

    def verify(self, secret: str = SECRET) -> None:
        Verifier(secret).verify(self.body, self.headers)


class Receiver:
    """An endpoint that records what came, and answers as the test says."""

    def __init__(self) -> None:
        self.port = free_port()
        self.answer: Answer = accept
        self.deliveries: list[Delivery] = []
        self.connections: set[Any] = set()
        self.at_once = self.most_at_once = 0
        self._runner: web.AppRunner | None = None
        self._handling: set[asyncio.Task[Any]] = set()
        self._ending = asyncio.Event()
        self._came = asyncio.Event()

    async def start(self) -> None:
        self._ending.clear()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        self._ending.set()
        if self._handling:
            await asyncio.wait(self._handling)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def asked(self, requests: int) -> None:
        """Wait until so many have come in all."""
        async with asyncio.timeout(60):
            while len(self.deliveries) < requests:
                self._came.clear()
                await self._came.wait()

    async def silence(self, _: web.Request) -> web.StreamResponse:
        """An answer that does not come."""
        await self._ending.wait()
        return web.Response(status=500)

    def make(self, **options: Any) -> Sink:
        host = options.pop("host", "127.0.0.1")
        login = options.pop("login", f"user:{PASSWORD}@")
        given: dict[str, Any] = {"secret": SECRET, "allow_cidrs": ["127.0.0.0/8", "::1/128"]} | options
        url = f"webhook+http://{login}{host}:{self.port}/hooks/credits"
        return make(SinkSettings(name="billing", url=url, options=given))

    async def _take(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)
        self.connections.add(request.transport)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            body = await request.read()
            self.deliveries.append(Delivery(dict(request.headers), body))
            self._came.set()
            return await self.answer(request)
        finally:
            self.at_once -= 1


@asynccontextmanager
async def opened(receiver: Receiver, **options: Any) -> AsyncIterator[Sink]:
    sink = receiver.make(**options)
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


def always(status: int, text: str = "", **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, headers=named)

    return answer


class WebhookHarness:
    """A receiver that keeps the higher version of what it could verify, as docs/sinks.md asks of it."""

    def __init__(self) -> None:
        self._receiver = Receiver()
        self.secrets = [SECRET, KEY, PASSWORD]

    async def start(self) -> None:
        await self._receiver.start()

    async def stop(self) -> None:
        await self._receiver.stop()

    def make(self) -> Sink:
        return self._receiver.make()

    async def received(self, user_id: str) -> dict[str, Any] | None:
        mine = [each for each in self._receiver.deliveries if each.data["user_id"] == user_id]
        for delivery in mine:
            delivery.verify()
        newest = max((each.data for each in mine), key=lambda data: int(data["version"]), default=None)
        if newest is not None:
            del newest["previous"], newest["cause"]  # beside the total, and not part of it
        return newest

    async def go_away(self) -> None:
        await self._receiver.stop()

    async def come_back(self) -> None:
        await self._receiver.start()

    async def hang(self) -> None:
        self._receiver.answer = self._receiver.silence


def build() -> WebhookHarness:
    return WebhookHarness()
