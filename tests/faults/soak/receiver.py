"""A webhook's receiver that keeps all it was told, and answers as badly as it is asked to."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from aiohttp import web

from tests.faults.soak.alerts import Alerts
from tests.faults.soak.crossings import TYPES
from tests.faults.soak.heard import Heard
from tests.servers import free_port

SECRET = "whsec_dGhpcnR5LXR3byBieXRlcyBvZiBhIHRlc3QncyBrZXk="

Mood = Literal["well", "hangs", "says nonsense", "breaks off"] | int
"""How it answers; a number is a status."""


@dataclass(slots=True)
class Receiver:
    """An endpoint. What it answers with 2xx it has stored; everything else it has not."""

    heard: Heard
    alerts: Alerts
    port: int = field(default_factory=free_port)
    mood: Mood = "well"
    refused: frozenset[str] = frozenset()
    _runner: web.AppRunner | None = None
    _recovered: asyncio.Event = field(default_factory=asyncio.Event)

    def sink(self, port: int, **options: Any) -> dict[str, Any]:
        """What has totals sent here, by way of a port."""
        return {
            "name": self.heard.name,
            "url": f"webhook+http://127.0.0.1:{port}/{self.heard.name}",
            "secret": SECRET,
            "allow_cidrs": ["127.0.0.1"],
            "schedule": ["1s"] * 50,
            "events": ["credits.updated", *TYPES],
        } | options

    async def be(self, mood: Mood, seconds: float) -> None:
        """Answer like this for so long."""
        self.mood = mood
        self._recovered.clear()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.mood = "well"
            self._recovered.set()

    async def come(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_post("/{tail:.*}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def go(self) -> None:
        """Break every connection, and refuse new ones."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        message = orjson.loads(await request.read())
        total = message["data"]
        if total["user_id"] in self.refused:
            return web.Response(status=400, text=json.dumps({"error": "not this one"}))
        if self.mood == "well":
            self.heard.hear(total)
            self.alerts.hear(request.headers["webhook-id"], message["type"], message["timestamp"], total)
            return web.Response(status=204)
        return await self._misbehave(request)

    async def _misbehave(self, request: web.Request) -> web.StreamResponse:
        if isinstance(self.mood, int):
            headers = {"Retry-After": "1"} if self.mood == 429 else {}
            return web.Response(status=self.mood, text="out of order", headers=headers)
        transport = request.transport
        assert transport is not None
        if self.mood == "hangs":
            await self._recovered.wait()
        elif self.mood == "says nonsense":
            transport.write(b"220 mail.example.com ESMTP\r\n" * 3)
        else:
            transport.write(b"HTTP/1.1 200 OK\r\nContent-Le")
        transport.close()
        return web.Response(status=500)
