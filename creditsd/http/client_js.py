"""The JavaScript client at `/creditsd.js`, for pages without a bundler: one file, built from `clients/js`."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable
from pathlib import Path

from aiohttp import ETag, web

FILE = Path(__file__).with_name("static") / "creditsd.js"


class ClientScript:
    """Serves the script to every origin, compressed where the client takes gzip; there is nothing secret in it."""

    def __init__(self) -> None:
        self._text = FILE.read_bytes()
        self._compressed = gzip.compress(self._text, mtime=0)
        self._version = hashlib.sha256(self._text).hexdigest()[:16]

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the route."""
        return [web.get("/creditsd.js", self._answer)]

    async def _answer(self, request: web.Request) -> web.Response:
        response = web.Response(content_type="text/javascript", charset="utf-8")
        if any(tag.value == self._version for tag in request.if_none_match or ()):
            response.set_status(304)
        elif "gzip" in request.headers.get("Accept-Encoding", ""):
            response.body = self._compressed
            response.headers["Content-Encoding"] = "gzip"
        else:
            response.body = self._text
        # Asked about each time, so that no page runs last month's client against today's daemon.
        response.headers.update(
            {"Cache-Control": "no-cache", "Access-Control-Allow-Origin": "*", "Vary": "Accept-Encoding"}
        )
        response.etag = ETag(self._version, is_weak=True)  # weak, because it names both forms
        return response
