"""Serves the steps that led to a total: `/v1/users/{id}/credits/history` and `/v1/me/credits/history`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aiohttp import web

from creditsd.domain.total import NEWEST_VERSION, Total, encode
from creditsd.http.auth import Auth
from creditsd.http.database_source import DatabaseSource
from creditsd.http.errors import RequestRefused, answer
from creditsd.http.reads import number
from creditsd.postgres import sql_files
from creditsd.postgres.batches import batch
from creditsd.postgres.connections import borrowed, read_as

PAGE_STEPS = 100

_OFF = "no history is kept here: to keep each step, set [history] days and restart the daemon"


class History:
    """Answers with a page of a user's steps, the newest first; 404 where none is kept."""

    def __init__(self, auth: Auth, source: DatabaseSource, days: int) -> None:
        self._auth = auth
        self._source = source
        self._days = days

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/v1/users/{id:[^/]+}/credits/history", self._of_user),
            web.get("/v1/me/credits/history", self._of_me),
        ]

    async def _of_user(self, request: web.Request) -> web.Response:
        _, user_id = await self._auth.reader(request, request.match_info["id"])
        return await self._page(request, user_id)

    async def _of_me(self, request: web.Request) -> web.Response:
        _, user_id = await self._auth.user(request)
        return await self._page(request, user_id)

    async def _page(self, request: web.Request, user_id: str) -> web.Response:
        if not self._days:
            raise RequestRefused(404, _OFF)
        limit = number(request, "limit", PAGE_STEPS)
        cursor = number(request, "cursor", NEWEST_VERSION)
        if limit == 0:
            raise RequestRefused(400, f"limit must be 1 to {PAGE_STEPS}")
        limit, before = limit or PAGE_STEPS, NEWEST_VERSION if cursor is None else cursor
        steps = await self._read(user_id, before, limit + 1)
        page = steps[:limit]
        following = str(page[-1].version) if len(steps) > limit else None
        return answer(encode({"steps": [each.document() | {"cause": each.cause} for each in page], "next": following}))

    async def _read(self, user_id: str, before: int, limit: int) -> Sequence[Total]:
        asked = {"user_id": user_id, "before": before, "limit": limit}
        async with borrowed(self._source.pool) as connection:
            with read_as(self._source.batcher.user_id_type, user_id):
                return (await batch(connection, sql_files.sql("queries/history_of_user"), asked)).totals
