"""The floor of streams: aiohttp alone, one handler that writes what one Redis subscription hears, and no more.

Run as `python -m bench.bare PORT REDIS_URL`; says "ready" when it listens. It asks nobody for a key, reads no first
total, knows no version and no slow reader.
"""

from __future__ import annotations

import asyncio
import resource
import sys

import redis.asyncio as redis
import uvloop
from aiohttp import web

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
FIRST = b'data: {"credits":0}\n\n'


async def run(port: int, url: str) -> None:
    streams: dict[bytes, web.StreamResponse] = {}
    ended = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        await response.write(FIRST)
        streams[request.match_info["id"].encode()] = response
        await ended.wait()
        return response

    application = web.Application()
    application.add_routes([web.get("/v1/users/{id}/credits/stream", stream)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    async with redis.Redis.from_url(url) as client, client.pubsub(ignore_subscribe_messages=True) as totals:
        await totals.psubscribe("credits:*")
        print("ready", flush=True)
        async for message in totals.listen():
            response = streams.get(message["channel"].removeprefix(b"credits:"))
            if response is not None:
                await response.write(b"data: %b\n\n" % message["data"])


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(run(int(sys.argv[1]), sys.argv[2]))
