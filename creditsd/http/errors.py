"""Refusals of requests: a status, one line that says what to do, and the headers that go with it."""

from __future__ import annotations

import re

from aiohttp import web

from creditsd.config.printable import escaped
from creditsd.domain.total import encode

_UNQUOTABLE = re.compile(r"[^ !#-\[\]-~]")


class RequestRefused(Exception):  # noqa: N818  reads as the state it reports
    """A refused request; the middleware answers it as `{"success": false, "error": …}`."""

    def __init__(self, status: int, error: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.headers = headers or {}

    @classmethod
    def unauthorized(cls, error: str, code: str = "") -> RequestRefused:
        """Make a 401 with its challenge; `code` is an error of RFC 6750, empty if no credential was sent."""
        challenge = 'Bearer realm="creditsd"'
        if code:
            challenge += f', error="{code}", error_description="{_UNQUOTABLE.sub("?", error)}"'
        return cls(401, error, {"WWW-Authenticate": challenge})

    @classmethod
    def later(cls, status: int, error: str, seconds: float) -> RequestRefused:
        """Make a 429 or 503 with Retry-After."""
        return cls(status, error, {"Retry-After": str(max(1, int(seconds + 0.999)))})

    def response(self) -> web.Response:
        """Return the response."""
        return error_response(self.status, self.error, self.headers)


def nothing_at(path: str) -> str:
    """Say that there is nothing at a path, in one line whatever that holds."""
    return f"there is nothing at {escaped(path[:100])}"


def error_response(status: int, error: str, headers: dict[str, str] | None = None) -> web.Response:
    """Answer `{"success": false, "error": …}`."""
    body = encode({"success": False, "error": error})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def answer(data: bytes) -> web.Response:
    """Answer `{"success": true, "data": …}`, from data that is JSON already."""
    return web.Response(body=b'{"success":true,"data":' + data + b"}", content_type="application/json")
