from __future__ import annotations

from typing import Any
from urllib.parse import quote

from creditsd.config.settings import SinkSettings
from creditsd.sinks import Sink, make
from tests.proxy import Proxy
from tests.sinks.realtime import project, server

PASSWORD = "s3cr3t/pass:word@x"


def url(port: int, database: str, user: str = "postgres") -> str:
    return f"supabase://{user}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/{database}"


def newest(messages: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What a page is left with that keeps the higher version, without what Realtime puts beside the total."""
    found = max(messages, key=lambda message: int(message["version"]), default=None)
    return None if found is None else {key: value for key, value in found.items() if key != "id"}


class SupabaseHarness:
    """A project's database behind a proxy that can break."""

    def __init__(self) -> None:
        self.secrets = [PASSWORD, "s3cr3t"]

    async def start(self) -> None:
        self._project = project()
        self._project.forget()
        self._proxy = Proxy("127.0.0.1", server().port)
        await self._proxy.start()

    async def stop(self) -> None:
        await self._proxy.stop()

    def make(self) -> Sink:
        return make(SinkSettings(name="pages", url=url(self._proxy.port, self._project.name)))

    async def received(self, user_id: str) -> dict[str, Any] | None:
        return newest(self._project.messages(f"credits:{user_id}"))

    async def go_away(self) -> None:
        await self._proxy.cut()

    async def come_back(self) -> None:
        await self._proxy.restore()

    async def hang(self) -> None:
        await self._proxy.freeze()


def build() -> SupabaseHarness:
    return SupabaseHarness()
