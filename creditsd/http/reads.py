"""Serves the current total: `/v1/users/{id}/credits` and `/v1/me/credits`."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from creditsd.http.auth import Auth
from creditsd.http.errors import answer
from creditsd.http.hub import Hub


class Reads:
    """Answers each read with the newest total that is stored."""

    def __init__(self, hub: Hub, auth: Auth) -> None:
        self._hub = hub
        self._auth = auth

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes."""
        return [web.get("/v1/users/{id:[^/]+}/credits", self._of_user), web.get("/v1/me/credits", self._of_me)]

    async def _of_user(self, request: web.Request) -> web.Response:
        _, user_id = await self._auth.reader(request, request.match_info["id"])
        return await self._total(user_id)

    async def _of_me(self, request: web.Request) -> web.Response:
        _, user_id = await self._auth.user(request)
        return await self._total(user_id)

    async def _total(self, user_id: str) -> web.Response:
        _, document = await self._hub.read(user_id)
        return answer(document)
