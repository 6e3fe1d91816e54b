"""The HTTP surface: whether the daemon lives, and whether it is ready."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from creditsd.errors import ConfigError
from creditsd.model import encode
from creditsd.settings import HttpSettings

Health = Callable[[], Mapping[str, Any]]


class Live:
    """Serves /livez and /readyz for as long as it is open; serves nothing where `http.listen` is empty."""

    def __init__(self, settings: HttpSettings, health: Health) -> None:
        self._settings = settings
        self._health = health
        application = web.Application()
        application.add_routes([web.get("/livez", self._livez), web.get("/readyz", self._readyz)])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)

    async def __aenter__(self) -> Self:
        if self._settings.address is None:
            return self
        host, port = self._settings.address
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"cannot listen on {self._settings.listen} ({_reason(error)}): "
                "set CREDITSD_HTTP__LISTEN to another host:port, or to nothing for no HTTP"
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        """200 while the line turns, or waits for PostgreSQL on purpose; 503 asks to be restarted."""
        return self._answer(bool(self._health()["alive"]))

    async def _readyz(self, _: web.Request) -> web.Response:
        """200 when it leads and has recomputed everyone, or stands by for another that leads."""
        return self._answer(bool(self._health()["ready"]))

    def _answer(self, well: bool) -> web.Response:
        return web.Response(
            status=200 if well else 503, body=encode(dict(self._health())), content_type="application/json"
        )


def _reason(error: OSError) -> str:
    """Say it in the system's few words; asyncio's own repeat the address."""
    return os.strerror(error.errno) if error.errno else str(error)
