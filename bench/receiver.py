"""An endpoint that costs as little as it can: answers every POST, and a GET tells how many there were and in how long.

Run as `python -m bench.receiver PORT`; says "ready" when it listens. DELETE begins the count anew.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import orjson
import uvloop

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Count:
    """What has come since somebody asked."""

    def __init__(self) -> None:
        self.requests, self.first, self.last = 0, 0.0, 0.0

    def add(self) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.requests += 1


class Connection(asyncio.Protocol):
    """Reads requests whose length stands in their head, one after the other."""

    def __init__(self, counts: list[Count]) -> None:
        self._counts = counts
        self._unread = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            head = self._unread[:end].lower()
            _, named, length = head.partition(b"content-length:")
            size = end + 4 + (int(length.split(b"\r\n", 1)[0]) if named else 0)
            if len(self._unread) < size:
                return
            self._unread = self._unread[size:]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        assert self._transport is not None
        if head.startswith(b"post"):
            self._counts[-1].add()
            self._transport.write(ANSWER)
            return
        count = self._counts[-1]
        if head.startswith(b"delete"):
            self._counts[:] = [Count()]
        told = orjson.dumps({"requests": count.requests, "seconds": count.last - count.first})
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(told), told))


async def run(port: int) -> None:
    counts = [Count()]
    server = await asyncio.get_running_loop().create_server(lambda: Connection(counts), "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(run(int(sys.argv[1])))
