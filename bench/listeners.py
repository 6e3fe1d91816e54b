"""Opens many streams and notes when each total arrives, at as little cost as it can.

Run as `python -m bench.listeners PORT KEY USERS`; the users' ids come on standard input, a line each. Says "open" when
every stream has its first total, then answers each line on standard input: "told" with what has come since, as JSON
lists of [credits, moment on the machine's monotonic clock]; anything else ends it.
"""

from __future__ import annotations

import asyncio
import re
import resource
import sys
import time
from typing import cast

import orjson
import uvloop

CREDITS = re.compile(rb'"credits":(-?\d+)')
OPENING = 200  # at a time


class Reader(asyncio.Protocol):
    """One stream. A total is small, and comes in one piece."""

    def __init__(self, request: bytes, heard: list[tuple[int, float]]) -> None:
        self._request = request
        self._heard = heard
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        for found in CREDITS.finditer(data):
            self._heard.append((int(found[1]), now))
            if not self.first.done():
                self.first.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.first.done():
            self.first.set_exception(exc or ConnectionError("refused"))


async def run(port: int, key: str, users: list[str]) -> None:
    loop = asyncio.get_running_loop()
    heard: list[tuple[int, float]] = []
    line = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(line), sys.stdin)
    gate = asyncio.Semaphore(OPENING)

    async def opened(user: str) -> None:
        request = f"GET /v1/users/{user}/credits/stream HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n"
        async with gate:
            _, reader = await loop.create_connection(lambda: Reader(request.encode(), heard), "127.0.0.1", port)
            await reader.first

    begun = time.perf_counter()
    await asyncio.gather(*(opened(user) for user in users))
    print(orjson.dumps({"open": len(users), "seconds": time.perf_counter() - begun}).decode(), flush=True)
    heard.clear()
    while (await line.readline()).strip() == b"told":
        print(orjson.dumps(heard).decode(), flush=True)
        heard.clear()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ids = [sys.stdin.readline().strip() for _ in range(int(sys.argv[3]))]
    uvloop.run(run(int(sys.argv[1]), sys.argv[2], ids))
