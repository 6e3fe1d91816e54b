"""The HTTP server: reads, streams, probes, metrics and added parts, on one address.

It knows nothing of the daemon: what it tells comes through a hub, which any process can fill. Something new is a part:
a class in a file of its own that contributes routes, takes `HttpServer.auth` to ask who the caller is, and is added
before the surface is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from creditsd.config.http_settings import HttpSettings
from creditsd.domain.errors import ConfigError
from creditsd.http import bulk_reads, reads, sse, tcp
from creditsd.http.api_document import ApiDocument
from creditsd.http.audience import Audience
from creditsd.http.auth import Auth
from creditsd.http.client_js import ClientScript
from creditsd.http.hub import Hub
from creditsd.http.key_timings import KeyTimings
from creditsd.http.metrics_endpoint import Look, MetricsEndpoint
from creditsd.http.middleware import Middleware
from creditsd.http.probes import Health, Probes
from creditsd.metrics.counters import HttpMetrics

log = structlog.get_logger()

OTHER_CONNECTIONS = 1000  # beside streams: reads, and those who are being refused
OTHER_DESCRIPTORS = 200  # of the process itself, beside connections
LONGEST_BODY_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Timings:
    """How long shutting down may take: for requests under way, and for all streams together.

    A client that does not read is cut off long before `farewell_seconds`.
    """

    close_seconds: float = 1.0
    farewell_seconds: float = 5.0
    streams: sse.Timings = field(default_factory=sse.Timings)
    reads: reads.Timings = field(default_factory=reads.Timings)
    bulk_reads: bulk_reads.Timings = field(default_factory=bulk_reads.Timings)
    connections: tcp.Timings = field(default_factory=tcp.Timings)
    keys: KeyTimings = field(default_factory=KeyTimings)


class Part(Protocol):
    """A set of routes. Its handlers refuse a request by raising `RequestRefused`."""

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Return the routes; called once, when the server is opened."""


class HttpServer:
    """Serves its parts while it is open; nothing where `http.listen` is empty."""

    def __init__(
        self,
        settings: HttpSettings,
        hub: Hub,
        health: Health,
        registry: CollectorRegistry,
        *,
        timings: Timings | None = None,
        other_connections: int = OTHER_CONNECTIONS,
    ) -> None:
        self.hub = hub
        self.registry = registry
        self.metrics = HttpMetrics(registry)
        self._settings = settings
        self._timings = timings = timings or Timings()
        self._other_connections = other_connections
        self.auth = Auth(settings, hub, self.metrics, timings.keys)
        self._endpoint = MetricsEndpoint(self.auth, registry, public=settings.metrics_public)
        self._audience = Audience(settings, hub, self.metrics, self.auth)
        self._streams = sse.Streams(settings, self._audience, self.auth, self.metrics, timings.streams)
        self._middleware = Middleware(settings, self.metrics, self.auth)
        self._connections = tcp.OpenConnections(self.metrics, 0)
        self._parts: list[Part] = [
            Probes(health),
            self._endpoint,
            reads.Reads(hub, self._audience, self.auth, timings.reads),
            bulk_reads.BulkReads(hub, self.auth, timings.bulk_reads),
            self._streams,
            ClientScript(),
            ApiDocument(),
        ]
        self._runner: web.AppRunner | None = None
        self._site: tcp.TcpSite | None = None

    @property
    def port(self) -> int | None:
        """The port it listens on; None while it does not."""
        return self._site.port if self._site is not None else None

    def add(self, part: Part) -> None:
        """Add a part, before the server is opened."""
        self._parts.append(part)

    async def follow(self, settings: HttpSettings) -> None:
        """Answer by other settings from now on, where it listens; who is let in no more by them is sent away."""
        self._middleware.follow(settings)
        self._streams.follow(settings)
        self._endpoint.public = settings.metrics_public
        if self._site is not None:
            self._connections.most = self._most(settings)
        await self.auth.follow(settings)
        self._audience.follow(settings)

    def before_each_scrape(self, look: Look) -> None:
        """Register a coroutine to await before each answer of `/metrics`."""
        self._endpoint.before_each(look)

    async def __aenter__(self) -> Self:
        if self._settings.address is None:
            return self
        host, port = self._settings.address
        application = web.Application(client_max_size=LONGEST_BODY_BYTES)
        self._middleware.attach(application)
        for part in self._parts:
            application.add_routes(part.routes())
        runner = web.AppRunner(application, shutdown_timeout=self._timings.close_seconds)
        await runner.setup()
        self._connections.most = self._most(self._settings)
        site = tcp.TcpSite(runner, host, port, self._connections, self._timings.connections)
        try:
            await site.start()
        except (OSError, UnicodeError) as error:
            await runner.cleanup()
            raise ConfigError(
                f"cannot listen on {self._settings.listen} ({_reason(error)}): "
                "set CREDITSD_HTTP__LISTEN to another host:port, or to nothing for no HTTP"
            ) from error
        self._runner, self._site = runner, site
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.hub.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.farewell_seconds):
                await self._audience.ended()
        if self._runner is not None:
            await self._runner.cleanup()
        await self.auth.close()
        self._runner = self._site = None

    def _most(self, settings: HttpSettings) -> int:
        return _most_connections(settings.max_streams + self._other_connections)


def _most_connections(wanted: int) -> int:
    """Raise the limit of open files as far as needed and allowed; return how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    need = wanted + OTHER_DESCRIPTORS
    if soft < need:
        raised = need if hard == resource.RLIM_INFINITY else min(need, hard)
        with contextlib.suppress(OSError, ValueError):  # macOS has a bound of its own below its hard one
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft < need:
        log.warning(
            "live.descriptors_found_short",
            connections=max(1, soft - OTHER_DESCRIPTORS),
            hint=f"allow {need} open files (LimitNOFILE=, ulimit -n), or lower http.max_streams",
        )
    return max(1, min(wanted, soft - OTHER_DESCRIPTORS))


def _reason(error: OSError | UnicodeError) -> str:
    """Return the system's words for an error; asyncio's own repeat the address."""
    if isinstance(error, UnicodeError):  # of what writes names for DNS
        return "no host is called so"
    return os.strerror(error.errno) if error.errno else str(error)
