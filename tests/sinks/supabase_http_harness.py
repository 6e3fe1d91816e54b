from __future__ import annotations

from typing import Any

from creditsd.config.settings import SinkSettings
from creditsd.sinks import Sink, make
from tests.sinks.realtime import Endpoint
from tests.sinks.supabase_harness import newest

KEY = "sb_secret_4711-geheim"


def made(port: int, **options: Any) -> Sink:
    url = f"supabase+http://127.0.0.1:{port}"
    return make(SinkSettings(name="pages", url=url, options={"key": KEY, **options}))


class SupabaseHttpHarness:
    """Realtime's endpoint."""

    def __init__(self) -> None:
        self._endpoint = Endpoint(KEY)
        self.secrets = [KEY, "geheim"]

    async def start(self) -> None:
        await self._endpoint.start()

    async def stop(self) -> None:
        await self._endpoint.stop()

    def make(self) -> Sink:
        return made(self._endpoint.port)

    async def received(self, user_id: str) -> dict[str, Any] | None:
        mine = [each for each in self._endpoint.messages if each["topic"] == f"credits:{user_id}"]
        assert all(each["event"] == "credits.updated" and each["private"] is True for each in mine)
        return newest([each["payload"] for each in mine])

    async def go_away(self) -> None:
        await self._endpoint.stop()

    async def come_back(self) -> None:
        await self._endpoint.start()

    async def hang(self) -> None:
        self._endpoint.hanging = True


def build() -> SupabaseHttpHarness:
    return SupabaseHttpHarness()
