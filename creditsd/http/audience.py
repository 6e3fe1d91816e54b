"""Those who listen over HTTP, as a stream or as a read that waits: bounded in all, and for each caller and user."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Literal

from aiohttp import web

from creditsd.config.http_settings import HttpSettings
from creditsd.http.auth import Auth, Caller
from creditsd.http.errors import RequestRefused
from creditsd.http.hub import Hub, Listener
from creditsd.http.tcp import ClientConnection
from creditsd.metrics.counters import HttpMetrics

Kind = Literal["stream", "read"]


class Audience:
    """Counts who listens. Of one caller and user, one more of a kind takes the place of the oldest."""

    def __init__(self, settings: HttpSettings, hub: Hub, metrics: HttpMetrics, auth: Auth) -> None:
        self._settings = settings
        self._auth = auth
        self._hub = hub
        self._metrics = metrics
        self._open = 0
        self._mine: dict[tuple[Kind, str, str], dict[Listener, Caller]] = {}
        self._over = asyncio.Event()
        self._over.set()

    def follow(self, settings: HttpSettings) -> None:
        """Take other limits, and have those go by whose key nobody is let in any more."""
        self._settings = settings
        for mine in self._mine.values():
            for listener, caller in mine.items():
                if not self._auth.admits(caller):
                    listener.close("token_expired")

    async def ended(self) -> None:
        """Wait until nobody listens; bounded once the hub is closed, whatever clients do."""
        await self._over.wait()

    @asynccontextmanager
    async def listening(
        self, request: web.Request, kind: Kind, caller: Caller, user_id: str
    ) -> AsyncIterator[Listener]:
        """Listen to a user, for as long as the block lasts; the listener is closed when the client has gone.

        Raises RequestRefused where as many listen as may, and what the hub raises.
        """
        if self._open >= self._settings.max_streams:
            self._metrics.limited.labels("streams").inc()
            raise RequestRefused.later(
                503, "as many streams are open as http.max_streams allows", random.uniform(1, 10)
            )
        self._count(1)
        self._over.clear()
        connection = request.protocol
        assert isinstance(connection, ClientConnection)
        try:
            async with self._hub.listening(user_id) as listener:
                connection.when_lost(lambda: listener.close("gone"))
                with self._counted((kind, caller.name, user_id), listener, caller):
                    yield listener
        finally:
            connection.when_lost(None)
            self._count(-1)
            if self._open == 0:
                self._over.set()

    def _count(self, step: int) -> None:
        self._open += step
        self._metrics.streams.set(self._open)

    @contextlib.contextmanager
    def _counted(self, key: tuple[Kind, str, str], listener: Listener, caller: Caller) -> Iterator[None]:
        """Count it among those of its kind, caller and user, for as long as the block lasts."""
        mine = self._mine.setdefault(key, {})
        if len(mine) >= self._settings.max_streams_per_user:
            oldest = next(iter(mine))
            del mine[oldest]
            oldest.close("replaced")
        mine[listener] = caller
        if not self._auth.admits(caller):  # the keys changed since it was let in
            listener.close("token_expired")
        try:
            yield
        finally:
            mine.pop(listener, None)
            if not mine and self._mine.get(key) is mine:
                del self._mine[key]
