"""Describes what is served here at `/openapi.json`: the file beside this one, without the paths that are elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import orjson
from aiohttp import ETag, web

from creditsd import __version__

FILE = Path(__file__).with_name("openapi.json")


class ApiDocument:
    """Serves the document to every origin; there is nothing secret in it."""

    def __init__(self) -> None:
        self._served: tuple[bytes, str] | None = None

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the route."""
        return [web.get("/openapi.json", self._answer)]

    async def _answer(self, request: web.Request) -> web.Response:
        if self._served is None:
            self._served = _document(_paths(request.app))
        text, version = self._served
        response = web.Response(content_type="application/json")
        if any(tag.value == version for tag in request.if_none_match or ()):
            response.set_status(304)
        else:
            response.body = text
        response.headers.update({"Cache-Control": "no-cache", "Access-Control-Allow-Origin": "*"})
        response.etag = ETag(version)
        return response


def _paths(application: web.Application) -> set[str]:
    return {resource.canonical for resource in application.router.resources()}


def _document(paths: set[str]) -> tuple[bytes, str]:
    """Return the document with these paths alone, and a tag of it."""
    document = orjson.loads(FILE.read_bytes())
    document["info"]["version"] = __version__
    document["paths"] = {path: what for path, what in document["paths"].items() if path in paths}
    text = orjson.dumps(document)
    return text, hashlib.sha256(text).hexdigest()[:16]
