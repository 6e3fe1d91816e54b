"""The composition root of `creditsd serve`: the HTTP surface fed by Redis or NATS, without a database."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from creditsd import __version__
from creditsd.config import reload, systemd
from creditsd.config.reload import Reload
from creditsd.config.settings import Settings
from creditsd.domain.errors import ConfigError
from creditsd.gateway import sources, upstream
from creditsd.gateway.upstream import Upstream
from creditsd.http import server
from creditsd.http.hub import Hub
from creditsd.http.server import HttpServer
from creditsd.metrics.counters import FeedMetrics
from creditsd.metrics.registry import registry as metrics

log = structlog.get_logger()

RELOADED = reload.Scope(
    changes=frozenset({"http", "log"}),
    fixed=frozenset({"http.listen"}),
    unused=frozenset(Settings.model_fields) - {"http", "log", "serve", "events"},
)


@dataclass(frozen=True, slots=True)
class Timings:
    """How often systemd is told of a change, and the times of the feed and of the HTTP server."""

    status_seconds: float = 1.0
    feed: upstream.Timings = field(default_factory=upstream.Timings)
    http: server.Timings = field(default_factory=server.Timings)


class Gateway:
    """Serves totals that a daemon elsewhere publishes. Losing the feed is never fatal; many may run side by side.

    With `read`, which reads the settings anew, SIGHUP reloads them.
    """

    def __init__(
        self, settings: Settings, timings: Timings | None = None, *, read: Callable[[], Settings] | None = None
    ) -> None:
        if settings.http.address is None:
            raise ConfigError("creditsd serve has nowhere to listen: set CREDITSD_HTTP__LISTEN to host:port")
        serve, registry = settings.serve, metrics()
        self._timings = timings = timings or Timings()
        self._upstream = Upstream(
            sources.make(serve),
            FeedMetrics(registry),
            user_id_type=serve.user_id_type,
            sweep_seconds=serve.sweep_seconds,
            timings=timings.feed,
        )
        self._hub = Hub(self._upstream, settings.events.low_told)
        self._http = HttpServer(settings.http, self._hub, self.health, registry, timings=timings.http)
        self._stopping = asyncio.Event()
        self._said: str | None = None  # to systemd, since the start succeeded
        self._reload = self._reloading(settings, read) if read is not None else None

    async def run(self) -> None:
        """Serve until `stop` or a signal; then tell every stream to go elsewhere. Raises ConfigError at its start."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        async with self._http, asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(self._upstream.run(self._hub.offer), name="feed"),
                tasks.create_task(systemd.keep_alive(lambda: True)),
                tasks.create_task(self._report()),
            ]
            if self._reload is not None:
                beside.append(tasks.create_task(self._reload.run(), name="reload"))
                reload.listen(self._reload.ask, self.stop)
            await self._stopping.wait()
            systemd.stopping()
            self._hub.close()  # while there is somewhere else to go
            for task in beside:
                task.cancel()
        await self._upstream.close()
        log.info("gateway.stopped")

    def stop(self) -> None:
        """Begin to end; safe to call more than once, and from a signal."""
        self._stopping.set()

    def health(self) -> dict[str, object]:
        """Return the health for /livez and /readyz: alive while it answers, ready while it follows the feed."""
        problem = self._upstream.error
        return {
            "version": __version__,
            "state": "serving" if problem is None else "waiting",
            "ready": problem is None and not self._stopping.is_set(),
            "alive": True,
            "feed": problem or "current",
        }

    def _reloading(self, settings: Settings, read: Callable[[], Settings]) -> Reload:
        return Reload(settings, whose="gateway", read=read, scope=RELOADED, apply=self._follow, said=lambda: self._said)

    async def _follow(self, settings: Settings) -> Mapping[str, object]:
        """Serve by other settings."""
        await self._http.follow(settings.http)
        return {}

    async def _report(self) -> None:
        """Tell systemd: ready as soon as the feed is heard, and what is wrong while it is not."""
        said: str | None = ""
        while True:
            problem = self._upstream.error
            if problem != said:
                said = problem
                if problem is None:
                    self._said = "serving"
                    systemd.ready(self._said)
                else:
                    waiting = f"waiting: {problem}"
                    self._said = self._said and waiting
                    systemd.status(waiting)
            await asyncio.sleep(self._timings.status_seconds)
