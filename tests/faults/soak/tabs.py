"""Who reads live streams, as open tabs do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import orjson

from tests.beside import beside
from tests.faults.soak.crew import Crew
from tests.faults.soak.heard import Heard

KEY = "a key for the tabs of a soak"
SILENCE_SECONDS = 45.0
AGAIN_SECONDS = 0.2
STAYS_SECONDS = (1.0, 15.0)


@dataclass(slots=True)
class Tabs:
    """A stream a user, at one daemon after the other: who leaves or is cut off comes back, to the next that runs."""

    crew: Crew
    users: Sequence[str]
    heard: Heard

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read for as long as the block lasts."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE_SECONDS)
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
            for number, user in enumerate(self.users):
                await stack.enter_async_context(beside(self._read(session, user, number)))
            yield

    async def _read(self, session: aiohttp.ClientSession, user: str, number: int) -> None:
        dice = random.Random(user)
        for turn in itertools.count(number):
            member = self.crew.members[turn % len(self.crew.members)]
            if member.daemon is not None:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):  # cut off, or nobody is there
                    async with asyncio.timeout(dice.uniform(*STAYS_SECONDS)):
                        await self._read_at(session, member.daemon.port, user, self._known(user, dice))
            await asyncio.sleep(AGAIN_SECONDS)

    def _known(self, user: str, dice: random.Random) -> dict[str, str]:
        """Return what a browser says of what it has; every other tab was closed, and knows nothing."""
        newest = self.heard.newest.get(user)
        return {"Last-Event-ID": str(newest["version"])} if newest is not None and dice.random() < 0.5 else {}

    async def _read_at(self, session: aiohttp.ClientSession, port: int, user: str, known: dict[str, str]) -> None:
        """Hear what comes until the stream ends."""
        url = f"http://127.0.0.1:{port}/v1/users/{user}/credits/stream"
        async with session.get(url, headers={"Authorization": f"Bearer {KEY}"} | known) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if line.startswith(b'data: {"user_id"'):
                    self.heard.hear(orjson.loads(line.removeprefix(b"data: ")))
