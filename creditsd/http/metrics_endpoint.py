"""Serves the metrics to Prometheus at `/metrics`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from creditsd.http.auth import Auth

Look = Callable[[], Awaitable[None]]

_NO_VERSION = re.compile(r"version=(?![0-9]{1,5}(\.[0-9]{1,5}){0,3}\s*(;|$))")


class MetricsEndpoint:
    """Answers scrapes; unless `public`, only those with an API key."""

    def __init__(self, auth: Auth, registry: CollectorRegistry, *, public: bool) -> None:
        self._auth = auth
        self._registry = registry
        self.public = public
        self._looks: list[Look] = []

    def before_each(self, look: Look) -> None:
        """Register a coroutine to await before each scrape."""
        self._looks.append(look)

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the route."""
        return [web.get("/metrics", self._answer)]

    async def _answer(self, request: web.Request) -> web.Response:
        if not self.public:
            await self._auth.server(request)
        for look in self._looks:
            await look()
        encode, content_type = choose_encoder(_readable(request.headers.get("Accept", "")))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})


def _readable(accept: str) -> str:
    """Return what is accepted, without what asks for a version that is no number: the library compares it with one."""
    return ",".join(each for each in accept.split(",") if _NO_VERSION.search(each) is None)
