"""Proxies as they stand between pages and servers: one withholds, one cuts, one is far away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import web

NOT_PASSED_ON = {"connection", "transfer-encoding", "content-length", "content-encoding", "keep-alive"}


@contextlib.asynccontextmanager
async def withholding(upstream: Callable[[], str]) -> AsyncIterator[str]:
    """Pass an answer on when all of it is here, which of a stream it never is; say the address."""

    async def answer(request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "accept-encoding"}
        async with session.request(
            request.method, upstream() + request.path_qs, headers=headers, data=await request.read()
        ) as whole:
            body = await whole.read()
            passed = {name: value for name, value in whole.headers.items() if name.lower() not in NOT_PASSED_ON}
            return web.Response(status=whole.status, headers=passed, body=body)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout()) as session:
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def passed(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass bytes on as they come."""
    while piece := await source.read(65_536):
        sink.write(piece)
        await sink.drain()


async def delayed(source: asyncio.StreamReader, sink: asyncio.StreamWriter, seconds: float) -> None:
    """Pass bytes on so much later, their end too."""
    loop, waiting = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes]]()

    async def write() -> None:
        while True:
            due, piece = await waiting.get()
            await asyncio.sleep(due - loop.time())  # the delay itself
            if not piece:
                return
            sink.write(piece)
            await sink.drain()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        piece = b"more"
        while piece:
            piece = await source.read(65_536)
            waiting.put_nowait((loop.time() + seconds, piece))


class Relay:
    """Passes connections on: what comes back so much later, each of them only for so long."""

    def __init__(self, upstream: Callable[[], str], late_seconds: float, cut_seconds: float | None) -> None:
        self._upstream = upstream
        self._late_seconds = late_seconds
        self._cut_seconds = cut_seconds
        self.links: set[asyncio.Task[None]] = set()
        self.cut = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.links.add(task)
        host, _, port = self._upstream().removeprefix("http://").partition(":")
        behind, ahead = await asyncio.open_connection(host, int(port))
        ways = [
            asyncio.ensure_future(passed(reader, ahead)),
            asyncio.ensure_future(delayed(behind, writer, self._late_seconds)),
        ]
        try:
            done, _ = await asyncio.wait(ways, timeout=self._cut_seconds, return_when=asyncio.FIRST_COMPLETED)
            self.cut += not done
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self.links.discard(task)
            for end in (writer, ahead):
                end.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


@contextlib.asynccontextmanager
async def relaying(
    upstream: Callable[[], str], *, late_seconds: float = 0, cut_seconds: float | None = None
) -> AsyncIterator[str]:
    """Stand between pages and a server, and say the address."""
    relay = Relay(upstream, late_seconds, cut_seconds)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        links = list(relay.links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
