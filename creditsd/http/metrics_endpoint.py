"""Serves the metrics to Prometheus at `/metrics`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from creditsd.http.auth import Auth

Look = Callable[[], Awaitable[None]]


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
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})
