"""Who listens to the channels of Redis and reads its keys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import orjson
import redis.asyncio as redis

from tests.beside import beside
from tests.faults.soak.heard import Heard
from tests.faults.truth import client, held
from tests.servers import Valkey


@dataclass(slots=True)
class Cache:
    """A subscriber that comes back when it was dropped, and a look at the keys; both past the proxy."""

    server: Valkey
    heard: Heard
    keys: Heard = field(default_factory=lambda: Heard("keys"))

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear all that is published for as long as the block lasts."""
        async with beside(self._listen()):
            yield

    async def look(self) -> None:
        """Read all the keys, as they are. Raises what the client does where it cannot be reached."""
        found = await held(self.server)
        for user, document in found.items():
            before = self.keys.newest.get(user)
            if before is not None and document["version"] < before["version"]:
                self.keys.late.append((user, before["version"], document["version"]))
            self.keys.hear(document)
        self.keys.newest = found

    async def _listen(self) -> None:
        while True:
            try:
                async with client(self.server) as link, link.pubsub() as channels:
                    await channels.psubscribe("credits:*")
                    async for message in channels.listen():
                        if message["type"] == "pmessage":
                            self.heard.hear(orjson.loads(message["data"]))
            except (redis.RedisError, OSError):
                await asyncio.sleep(0.05)
