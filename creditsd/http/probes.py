"""Liveness and readiness probes: `/livez` and `/readyz`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from creditsd.domain.total import encode

Health = Callable[[], Mapping[str, Any]]
"""Says `alive`, `ready`, and whatever else is worth knowing."""


class Probes:
    """Answers both with the same JSON, and 200 or 503."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes."""
        return [web.get("/livez", self._livez), web.get("/readyz", self._readyz)]

    async def _livez(self, _: web.Request) -> web.Response:
        """Answer 200 while the line runs or waits for PostgreSQL; 503 asks to be restarted."""
        return self._answer("alive")

    async def _readyz(self, _: web.Request) -> web.Response:
        """Answer 200 when it leads and has recomputed everyone, or stands by for another leader."""
        return self._answer("ready")

    def _answer(self, key: str) -> web.Response:
        said = dict(self._health())
        return web.Response(status=200 if said[key] else 503, body=encode(said), content_type="application/json")
