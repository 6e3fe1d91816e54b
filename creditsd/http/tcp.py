"""Clients' connections: at most so many, found out when the other end is gone, and every answer JSON."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from creditsd.http.errors import error_response
from creditsd.metrics.counters import HttpCounters

log = structlog.get_logger()

BACKLOG = 1024
LONGEST_LINE_BYTES = 8190  # of the address, and of each header
MOST_HEADERS = 64
SILENT_SECONDS = 75.0  # an open connection may say nothing for so long; a load balancer keeps its own for about 60

# Who vanished without a word is noticed in about half a minute, with a heartbeat under way or without.
KEEPALIVE_IDLE_SECONDS = 20
KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVE_COUNT = 3
UNACKNOWLEDGED_SECONDS = 30

NOT_EXPECTED = "of what a request may expect, only 100-continue is known"
_FULL_BODY = b'{"success":false,"error":"as many connections are open as this process takes: try again"}'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 2\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_FULL_BODY), _FULL_BODY)
)


class ClientConnection(web.RequestHandler):
    """One connection of a client; knows who must be told when it is lost."""

    __slots__ = ("_counts", "_told")

    def __init__(self, server: web.Server, counts: HttpCounters, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # its own default is wider than its annotation
            keepalive_timeout=SILENT_SECONDS,
            max_line_size=LONGEST_LINE_BYTES,
            max_field_size=LONGEST_LINE_BYTES,
            max_headers=MOST_HEADERS,
        )
        self._counts = counts
        self._told: Callable[[], None] | None = None

    def when_lost(self, told: Callable[[], None]) -> None:
        """Call this when the connection is lost, at once: who waits to write would notice late."""
        self._told = told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._counts.connections += 1
        _set_patience(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell whoever must know."""
        self._counts.connections -= 1
        super().connection_lost(exc)
        if self._told is not None:
            self._told()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  may quote what was sent
    ) -> web.StreamResponse:
        """Answer what could not be read, or what a bug of ours left without an answer."""
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionError("an answer is under way already, or nobody hears it")
        if isinstance(exc, UnicodeEncodeError) and "Expect" in request.headers:
            status = 417  # the framework's own answer to it quotes what was sent
        if status >= 500:
            log.error("live.failed", path=request.path[:100], exc_info=exc)
        if isinstance(exc, LineTooLong):
            status, error = 431, f"the address, and each header, may have {LONGEST_LINE_BYTES} bytes"
        elif status == 417:
            error = NOT_EXPECTED
        elif isinstance(exc, HttpProcessingError) or status == 400:
            error = "this is no HTTP request that can be read"
        else:
            error = "a bug of ours, which is in the log"
        response = error_response(status, error, {"Server": "creditsd"})
        response.force_close()
        return response


class TcpSite(web.BaseSite):
    """Listens, and lets in at most so many connections; one more is told so, and costs nothing."""

    def __init__(self, runner: web.AppRunner, host: str, port: int, counts: HttpCounters, *, most: int) -> None:
        super().__init__(runner, backlog=BACKLOG)
        self._host = host
        self._port = port
        self._counts = counts
        self._most = most

    @property
    def name(self) -> str:
        """Where it listens."""
        return f"http://{self._host}:{self._port}"

    @property
    def port(self) -> int:
        """The port it listens on, also where any was asked for."""
        server: Any = self._server
        return int(server.sockets[0].getsockname()[1]) if server is not None and server.sockets else self._port

    async def start(self) -> None:
        """Begin to listen. Raises OSError."""
        await super().start()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._let_in, self._host or None, self._port, backlog=self._backlog)

    def _let_in(self) -> asyncio.Protocol:
        server = self._runner.server
        if self._counts.connections >= self._most or server is None:
            self._counts.connections_refused += 1
            return _Full()
        return ClientConnection(server, self._counts, loop=asyncio.get_running_loop())


class _Full(asyncio.Protocol):
    """Says that there is no place, and hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        link = cast("asyncio.Transport", transport)  # uvloop's own is none by inheritance
        link.write(_FULL)
        link.close()


def _set_patience(transport: asyncio.BaseTransport) -> None:
    link = transport.get_extra_info("socket")
    if link is None or link.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_SECONDS),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_SECONDS),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_SECONDS * 1000),
    ):
        if hasattr(socket, name):  # as the system calls it, where it has it
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
