"""A TCP proxy in front of a server, for the faults a network has: cut, frozen, slow, restored, reset, truncated."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Literal, Self

from tests.workshop import free_port

State = Literal["open", "cut", "frozen"]


class Proxy:
    """Forward 127.0.0.1:`port` to a server until told to misbehave. The port stays the same throughout.

    With `reset_after_bytes` each connection is reset once its client has sent so many, whatever it is in the middle of,
    as a load balancer does before a server that died. With `truncate_after_bytes` it ends in order once the server has
    sent so many. Whatever is forwarded waits for `delay_seconds` first, either way.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._listener: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.state: State = "open"
        self.reset_after_bytes: int | None = None
        self.truncate_after_bytes: int | None = None
        self.delay_seconds = 0.0
        self.host, self.port = "127.0.0.1", free_port()
        self.accepted = 0

    def lead_to(self, host: str, port: int) -> None:
        """Forward to another server from now on; the connections there are stay."""
        self._upstream = (host, port)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the same port each time."""
        self._listener = await asyncio.start_server(self._serve, self.host, self.port, reuse_address=True)

    async def stop(self) -> None:
        """Drop every connection and listen no longer: new ones are refused."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        await self.drop()
        if listener is not None:
            await listener.wait_closed()

    async def drop(self) -> None:
        """Break the connections there are; new ones are still accepted."""
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def cut(self) -> None:
        """Break every connection and refuse new ones, as when the server's machine goes down."""
        self.state = "cut"
        await self.stop()

    async def freeze(self) -> None:
        """Accept and keep connections but forward nothing until restored, as when packets are dropped."""
        self.state = "frozen"
        self._flowing.clear()

    async def restore(self) -> None:
        """Forward again, what was held back included."""
        self.state = "open"
        self._flowing.set()
        if self._listener is None:
            await self.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        try:
            await self._link(reader, writer)
            writer.close()
        except (OSError, asyncio.CancelledError):
            # A dropped link is not an error of the proxy. The other side may never take what is buffered.
            writer.transport.abort()
        finally:
            self._links.discard(link)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, upstream_writer, client=writer))
                group.create_task(self._pump(upstream_reader, writer))
        except* OSError:
            writer.transport.abort()
        finally:
            upstream_writer.close()

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, client: asyncio.StreamWriter | None = None
    ) -> None:
        sent = 0
        while data := await source.read(65536):
            await self._flowing.wait()
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            sent += len(data)
            if client is None and self.truncate_after_bytes is not None and sent > self.truncate_after_bytes:
                target.write(data[: len(data) - (sent - self.truncate_after_bytes)])
                await target.drain()
                target.close()
                raise ConnectionAbortedError
            if target.is_closing():
                raise ConnectionResetError
            if client is not None and self.reset_after_bytes is not None and sent > self.reset_after_bytes:
                _reset(client)
                raise ConnectionResetError
            target.write(data)
            await target.drain()
        if target.can_write_eof() and not target.is_closing():
            target.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Abort, with a reset and not with an orderly end."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
