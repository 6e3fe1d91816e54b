"""What is not answered, and why: a status, one line that says what to do, and the headers that go with it."""

from __future__ import annotations

import re

from aiohttp import web

from creditsd.domain.total import encode

_UNQUOTABLE = re.compile(r"[^ !#-\[\]-~]")


class RequestRefused(Exception):  # noqa: N818  reads as the state it reports
    """A request that gets no answer; becomes `{"success": false, "error": …}`."""

    def __init__(self, status: int, error: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.headers = headers or {}

    @classmethod
    def unauthorized(cls, error: str, code: str = "") -> RequestRefused:
        """401, with the challenge that clients look for; the code is one of RFC 6750, none where nothing was sent."""
        challenge = 'Bearer realm="creditsd"'
        if code:
            challenge += f', error="{code}", error_description="{_UNQUOTABLE.sub("?", error)}"'
        return cls(401, error, {"WWW-Authenticate": challenge})

    @classmethod
    def later(cls, status: int, error: str, seconds: float) -> RequestRefused:
        """429 or 503, and when to come again."""
        return cls(status, error, {"Retry-After": str(max(1, int(seconds + 0.999)))})

    def response(self) -> web.Response:
        """Say it as JSON."""
        return error_response(self.status, self.error, self.headers)


def error_response(status: int, error: str, headers: dict[str, str] | None = None) -> web.Response:
    """Answer `{"success": false, "error": …}`."""
    body = encode({"success": False, "error": error})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def answer(data: bytes) -> web.Response:
    """Answer `{"success": true, "data": …}`, from data that is JSON already."""
    return web.Response(body=b'{"success":true,"data":' + data + b"}", content_type="application/json")
