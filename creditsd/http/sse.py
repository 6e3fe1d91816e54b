"""Streams totals as server-sent events: `/v1/users/{id}/credits/stream` and `/v1/me/credits/stream`.

First the total of now, then every newer one: `id:` is its version, `data:` its JSON, and it has no event name. An event
called `close` says why the stream ends. A reader that is slow is told of the newest total only.

A total is written where it is offered, as long as nothing written before waits to be sent: to wake a task for each
costs more than all the rest. The stream's task writes the first one, the heartbeats, and what a slow reader is told.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from aiohttp import HttpVersion11, web

from creditsd.config.http_settings import HttpSettings
from creditsd.http.audience import Audience
from creditsd.http.auth import Auth, Caller
from creditsd.http.hub import CloseReason, Listener
from creditsd.metrics.counters import HttpMetrics

RETRY_MILLISECONDS = 1000
LONGEST_RETRY_MILLISECONDS = 5000  # so that all the clients of a daemon that ends do not return at once

WRITE_BYTES = 16 * 1024  # so many wait for a reader that does not read, and as many in the kernel

FORESEEN_SECONDS = 60.0  # a version further in the future than that was none of ours

HEARTBEAT = b":\n\n"
_ADVICE = b"retry: %d\n\n" % RETRY_MILLISECONDS
_TOTAL = b"id: %d\ndata: %b\n\n"
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would hand it on in pieces of its own
}


@dataclass(frozen=True, slots=True)
class Timings:
    """How long a client may read nothing: while its stream is open, and once it was told that it ends."""

    write_seconds: float = 20.0
    farewell_seconds: float = 2.0


class Streams:
    """The open streams."""

    def __init__(
        self,
        settings: HttpSettings,
        audience: Audience,
        auth: Auth,
        metrics: HttpMetrics,
        timings: Timings | None = None,
    ) -> None:
        self._settings = settings
        self._audience = audience
        self._auth = auth
        self._metrics = metrics
        self._timings = timings or Timings()

    def follow(self, settings: HttpSettings) -> None:
        """Take another heartbeat."""
        self._settings = settings

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/v1/users/{id:[^/]+}/credits/stream", self._of_user, allow_head=False),
            web.get("/v1/me/credits/stream", self._of_me, allow_head=False),
        ]

    async def _of_user(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, *await self._auth.reader(request, request.match_info["id"]))

    async def _of_me(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, *await self._auth.user(request))

    async def _stream(self, request: web.Request, caller: Caller, user_id: str) -> web.StreamResponse:
        async with self._audience.listening(request, "stream", caller, user_id) as listener:
            self._metrics.streams_opened.inc()
            known = _last_event_id(request)
            if known is not None:
                listener.skip(known)
            return await self._send(request, caller, listener)

    async def _send(self, request: web.Request, caller: Caller, listener: Listener) -> web.StreamResponse:
        """Send totals until the stream is closed, by us or by the client."""
        response = web.StreamResponse(headers=HEADERS)
        response.force_close()  # whoever returns may be served by another process
        _limit_buffers(request)
        wire = _Wire(request, response, listener, self._timings)
        try:
            await response.prepare(request)
            await wire.write(_ADVICE + self._first(listener))
            listener.at_once = self._at_once(wire, caller)
            reason = await self._follow(wire, caller, listener)
        except TimeoutError:
            if listener.closed is not None:  # told to end, and it reads nothing: it need not be told again
                wire.cut()
            reason = "gone" if listener.closed is not None else "lagging"
        except ConnectionError:
            reason = "gone"
        self._metrics.streams_closed.labels(reason).inc()
        if reason != "gone":
            await wire.say_farewell(reason)
        return response

    def _first(self, listener: Listener) -> bytes:
        """Return the total of now as it is sent; nothing where the client knows it."""
        found = listener.take()
        if found is None:
            return b""
        self._metrics.stream_totals.inc()
        return _TOTAL % found

    def _at_once(self, wire: _Wire, caller: Caller) -> Callable[[int, bytes], bool]:
        """Make what writes a total to a stream at once; False where the stream's task must see to it."""
        count = self._metrics.stream_totals.inc

        def write(version: int, document: bytes) -> bool:
            written = not _expired(caller) and wire.write_at_once(_TOTAL % (version, document))
            if written:
                count()
            return written

        return write

    async def _follow(self, wire: _Wire, caller: Caller, listener: Listener) -> CloseReason | Literal["gone"]:
        """Send what is not sent at once, and heartbeats; return why that ends.

        Raises TimeoutError when the client does not read.
        """
        reason = _over(listener, caller)
        while reason is None:
            wait = self._settings.heartbeat_seconds - wire.silent_seconds()
            if caller.expires_at is not None:
                wait = min(wait, caller.expires_at - time.time())
            found = await listener.next(max(0.0, wait))
            reason = _over(listener, caller)
            if found is not None and reason != "token_expired":
                await wire.write(_TOTAL % found)
                self._metrics.stream_totals.inc()
            elif reason is None and wire.silent_seconds() >= self._settings.heartbeat_seconds:
                await wire.write(HEARTBEAT)
                self._metrics.stream_heartbeats.inc()
        return reason


class _Wire:
    """Writes to one client, and waits for it to read."""

    def __init__(
        self, request: web.Request, response: web.StreamResponse, listener: Listener, timings: Timings
    ) -> None:
        self._timings = timings
        self._request = request
        self._response = response
        self._chunked = request.version >= HttpVersion11  # as the framework has it of a length that is not known
        self._listener = listener
        self._transport = request.transport
        self._loop = asyncio.get_running_loop()
        self._written_at = self._loop.time()

    def silent_seconds(self) -> float:
        """Return how long ago something was written."""
        return self._loop.time() - self._written_at

    def write_at_once(self, data: bytes) -> bool:
        """Write where nothing waits to be sent, and the connection is there; tell whether that was so."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size():
            return False
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        self._written_at = self._loop.time()
        return True

    async def write(self, data: bytes) -> None:
        """Write and drain; a client that does not read has less time once the stream is closed. Raises TimeoutError."""
        loop, farewell_seconds = self._loop, self._timings.farewell_seconds
        seconds = farewell_seconds if self._listener.closed else self._timings.write_seconds
        async with asyncio.timeout(seconds) as patience:
            self._listener.when_closed = lambda: patience.reschedule(loop.time() + farewell_seconds)
            try:
                await self._response.write(data)
                await self._request.writer.drain()
            finally:
                self._listener.when_closed = None
                self._written_at = loop.time()

    async def say_farewell(self, reason: str) -> None:
        """Send the `close` event; abort the connection of a client that does not read it."""
        retry = b""
        if reason == "shutdown":
            retry = b"retry: %d\n" % random.randint(RETRY_MILLISECONDS, LONGEST_RETRY_MILLISECONDS)
        self._listener.close("gone")
        try:
            await self.write(retry + b'event: close\ndata: {"reason":"%b"}\n\n' % reason.encode())
            await self._response.write_eof()
        except ConnectionError:
            return
        except TimeoutError:
            self.cut()

    def cut(self) -> None:
        """Abort the connection."""
        if self._transport is not None:
            self._transport.abort()


def _over(listener: Listener, caller: Caller) -> CloseReason | Literal["gone"] | None:
    return listener.closed or ("token_expired" if _expired(caller) else None)


def _expired(caller: Caller) -> bool:
    return caller.expires_at is not None and caller.expires_at <= time.time()


def _last_event_id(request: web.Request) -> int | None:
    """Parse Last-Event-ID; None without one, or for what cannot be a version of ours."""
    text = request.headers.get("Last-Event-ID", "")
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        return None
    version = int(text)
    return version if version <= (time.time() + FORESEEN_SECONDS) * 1_000_000 else None


def _limit_buffers(request: web.Request) -> None:
    """Bound the send buffers, here and in the kernel, of a client that does not read."""
    transport = request.transport
    if transport is None:  # it has gone meanwhile
        return
    transport.set_write_buffer_limits(high=WRITE_BYTES)
    link = transport.get_extra_info("socket")
    if link is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WRITE_BYTES)
