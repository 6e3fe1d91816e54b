from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from creditsd.config.settings import SinkSettings
from creditsd.sinks import Sink, make
from tests.sinks.valkey import Valkey

PASSWORD = "s3cr3t/pass:word@x"


class RedisHarness:
    def __init__(self) -> None:
        self._server = Valkey(PASSWORD)
        self.secrets = [PASSWORD, "s3cr3t"]

    async def start(self) -> None:
        self._server.start()

    async def stop(self) -> None:
        self._server.stop()

    def make(self) -> Sink:
        return make(SinkSettings(name="cache", url=self._server.url))

    async def received(self, user_id: str) -> dict[str, Any] | None:
        found = self._server.client().get(f"credits:{user_id}")
        return None if found is None else json.loads(str(found), parse_float=Decimal)

    async def go_away(self) -> None:
        self._server.stop()

    async def come_back(self) -> None:
        self._server.start()

    async def hang(self) -> None:
        self._server.hang()


def build() -> RedisHarness:
    return RedisHarness()
