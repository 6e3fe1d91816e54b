"""Accepts client connections: bounded in number, with keepalives, and every protocol error answered as JSON."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from creditsd.http.errors import error_response
from creditsd.metrics.counters import HttpMetrics

log = structlog.get_logger()

BACKLOG = 1024
LONGEST_LINE_BYTES = 8190  # of the address, and of each header
MOST_HEADERS = 64
KEEPALIVE_COUNT = 3

NOT_EXPECTED = "of what a request may expect, only 100-continue is known"
_FULL_BODY = b'{"success":false,"error":"as many connections are open as this process takes: try again"}'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 2\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_FULL_BODY), _FULL_BODY)
)


@dataclass(frozen=True, slots=True)
class Timings:
    """How long a connection may be idle, and how soon a vanished client is noticed.

    A load balancer keeps its own connections for about 60 s. With a heartbeat under way or without, who has vanished is
    noticed in about half a minute.
    """

    silent_seconds: float = 75.0
    keepalive_idle_seconds: int = 20
    keepalive_interval_seconds: int = 5
    unacknowledged_seconds: int = 30


class OpenConnections:
    """Counts open connections, against a maximum."""

    def __init__(self, metrics: HttpMetrics, most: int) -> None:
        self._metrics = metrics
        self.most = most
        self._open = 0

    def has_place(self) -> bool:
        """Return whether one more fits; count the refusal if not."""
        if self._open >= self.most:
            self._metrics.connections_refused.inc()
            return False
        return True

    def count(self, step: int) -> None:
        """Count one more, or one less."""
        self._open += step
        self._metrics.connections.set(self._open)


class ClientConnection(web.RequestHandler):
    """One client connection, which calls back when it is lost."""

    __slots__ = ("_connections", "_timings", "_told")

    def __init__(
        self, server: web.Server, connections: OpenConnections, timings: Timings, *, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # its own default is wider than its annotation
            keepalive_timeout=timings.silent_seconds,
            max_line_size=LONGEST_LINE_BYTES,
            max_field_size=LONGEST_LINE_BYTES,
            max_headers=MOST_HEADERS,
        )
        self._connections = connections
        self._timings = timings
        self._told: Callable[[], None] | None = None

    def when_lost(self, told: Callable[[], None] | None) -> None:
        """Register what to call when the connection is lost, or nothing: who waits to write would notice late."""
        self._told = told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, and set its keepalives."""
        self._connections.count(1)
        _set_patience(transport, self._timings)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count it out, and call back."""
        self._connections.count(-1)
        super().connection_lost(exc)
        if self._told is not None:
            self._told()

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what the framework does not expect, but for a body that is not as its headers say."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  may quote what was sent
    ) -> web.StreamResponse:
        """Answer a request that could not be parsed, or that a bug of ours left unanswered, with JSON."""
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
    """Listens and accepts connections up to the maximum; answers one more with 503 at no cost."""

    def __init__(
        self, runner: web.AppRunner, host: str, port: int, connections: OpenConnections, timings: Timings
    ) -> None:
        super().__init__(runner, backlog=BACKLOG)
        self._host = host
        self._port = port
        self._connections = connections
        self._timings = timings

    @property
    def name(self) -> str:
        """The address it listens on."""
        return f"http://{self._host}:{self._port}"

    @property
    def port(self) -> int:
        """The port it listens on, also where port 0 was asked for."""
        server: Any = self._server
        return int(server.sockets[0].getsockname()[1]) if server is not None and server.sockets else self._port

    async def start(self) -> None:
        """Begin to listen. Raises OSError."""
        await super().start()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._let_in, self._host or None, self._port, backlog=self._backlog)

    def _let_in(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or not self._connections.has_place():
            return _Full()
        return ClientConnection(server, self._connections, self._timings, loop=asyncio.get_running_loop())


class _Full(asyncio.Protocol):
    """Answers 503 and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        link = cast("asyncio.Transport", transport)  # uvloop's own is none by inheritance
        link.write(_FULL)
        link.close()


def _set_patience(transport: asyncio.BaseTransport, timings: Timings) -> None:
    link = transport.get_extra_info("socket")
    if link is None or link.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for name, value in (
        ("TCP_KEEPIDLE", timings.keepalive_idle_seconds),
        ("TCP_KEEPINTVL", timings.keepalive_interval_seconds),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", timings.unacknowledged_seconds * 1000),
    ):
        if hasattr(socket, name):  # as the system calls it, where it has it
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
