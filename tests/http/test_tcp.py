"""Ugly clients, over raw sockets: memory stays bounded, and everyone else is served."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from creditsd.http import sse, tcp
from creditsd.http.server import HttpServer, Timings
from tests.conftest import eventually
from tests.http.asking import KEY, ONE, Shelf, counted, served, token

SIGNED_IN = f"Authorization: Bearer {token(seconds=3600)}"
STREAM = f"GET /v1/me/credits/stream HTTP/1.1\r\nHost: x\r\n{SIGNED_IN}\r\n\r\n".encode()


@asynccontextmanager
async def connected(port: int | None, *, receive_bytes: int | None = None) -> AsyncIterator[socket.socket]:
    """Connect, with a receive buffer of so many bytes."""
    assert port is not None
    with socket.socket() as link:
        link.setblocking(False)
        if receive_bytes is not None:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        await asyncio.get_running_loop().sock_connect(link, ("127.0.0.1", port))
        yield link


async def answer(port: int | None, request: bytes) -> tuple[int, dict[str, object]]:
    """Send bytes, and read an answer to its end."""
    loop = asyncio.get_running_loop()
    received = b""
    async with asyncio.timeout(60), connected(port) as link:
        await loop.sock_sendall(link, request)
        with contextlib.suppress(ConnectionResetError):
            while data := await loop.sock_recv(link, 65536):
                received += data
                head, _, body = received.partition(b"\r\n\r\n")
                if b"Content-Length: %d\r\n" % len(body) in head + b"\r\n":
                    break
    return int(received.split(b" ", 2)[1]), json.loads(received.partition(b"\r\n\r\n")[2])


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:  # noqa: PTH123  not a file on disk
        return int(statm.read().split()[1]) * resource.getpagesize()


async def test_what_is_no_http_is_400_in_json_and_not_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    garbage = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: 1\r\n" % n for n in range(500)) + b"\r\n",
        b"GET /v1/me/credits HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
        b"GET /v1/me/credits HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
        b"GET /v1/me/credits HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\nExpect: \xff\xfe\r\n\r\n",
        b"GET /v1/users/%00/credits HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    ]
    async with served(Shelf()) as (surface, _):
        for request in garbage:
            status, body = await answer(surface.port, request)
            assert status in (400, 401, 417, 431), request[:60]
            assert body["success"] is False
    assert caplog.records == []


async def test_who_connects_and_says_nothing_or_half_is_hung_up_on() -> None:
    loop = asyncio.get_running_loop()
    impatient = Timings(connections=tcp.Timings(silent_seconds=0.2))
    async with served(Shelf(), timings=impatient) as (surface, client), asyncio.timeout(60):
        for beginning in (b"", b"GET /v1/me/cre", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "):
            async with connected(surface.port) as link:
                await loop.sock_sendall(link, beginning)
                assert await loop.sock_recv(link, 1) == b""
        async with client.stream("/v1/me/credits/stream", token()) as stream:
            await stream.total()


async def test_who_sends_a_request_letter_by_letter_is_hung_up_on_as_well() -> None:
    loop = asyncio.get_running_loop()
    impatient = Timings(connections=tcp.Timings(silent_seconds=0.2))
    async with served(Shelf(), timings=impatient) as (surface, _), asyncio.timeout(60), connected(surface.port) as link:
        await loop.sock_sendall(link, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        hung_up = asyncio.ensure_future(loop.sock_recv(link, 1))
        while not hung_up.done():
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(link, b"x")
            await asyncio.wait([hung_up], timeout=0.05)
        with contextlib.suppress(ConnectionError):
            assert hung_up.result() == b""


async def test_who_vanishes_without_a_word_is_found_out_by_the_system() -> None:
    async with served(Shelf()) as (surface, client), client.stream("/v1/me/credits/stream", token()) as stream:
        await stream.total()
        assert surface._runner is not None
        assert surface._runner.server is not None
        (connection,) = surface._runner.server.connections
        assert connection.transport is not None
        link = connection.transport.get_extra_info("socket")
        assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 20


async def test_a_client_that_closes_its_half_is_let_go() -> None:
    loop = asyncio.get_running_loop()
    async with served(Shelf(), heartbeat_seconds=3600) as (surface, _), connected(surface.port) as link:
        await loop.sock_sendall(link, STREAM)
        await eventually(_open(surface), lambda count: count == 1)
        link.shutdown(socket.SHUT_WR)
        await eventually(_open(surface), lambda count: count == 0)


async def test_more_connections_than_there_is_place_for_are_told_so_and_cost_nothing() -> None:
    async with served(Shelf(), other_connections=20, max_streams=0) as (surface, _):
        async with contextlib.AsyncExitStack() as held:
            for _ in range(20):
                await held.enter_async_context(connected(surface.port))
            await eventually(_connections(surface), lambda count: count == 20)
            status, body = await answer(surface.port, b"")
            assert (status, "try again" in str(body["error"])) == (503, True)
            assert counted(surface, "http_connections_refused") == 1
        await eventually(_connections(surface), lambda count: count == 0)
        assert (await answer(surface.port, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200


async def test_thousands_of_attempts_leave_memory_as_it_was() -> None:
    attempts = [
        b"",
        b"GET /v1/me/credits HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/me/credits/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a.b.c\r\n\r\n",
        b"\xff" * 1000,
        STREAM,
    ]
    loop = asyncio.get_running_loop()
    shelf = Shelf()
    async with served(shelf, max_streams=50) as (surface, client):

        async def attempt(number: int) -> None:
            async with connected(surface.port) as link:
                sent = attempts[number % len(attempts)]
                await loop.sock_sendall(link, sent)
                if sent and number % 3 == 0:
                    with contextlib.suppress(ConnectionResetError):
                        await loop.sock_recv(link, 65536)

        async def wave(count: int) -> None:
            for start in range(0, count, 100):
                async with asyncio.timeout(60):
                    await asyncio.gather(*(attempt(start + number) for number in range(100)))

        await wave(300)
        before = resident_bytes()
        await wave(2000)
        await eventually(_connections(surface), lambda count: count == 0)
        assert resident_bytes() - before < 16_000_000
        assert counted(surface, "streams_open") == 0
        assert not shelf.hub.users
        assert not surface.hub._watched
        surface.auth._users._buckets.clear()
        assert (await client.get("/livez")).status == 200


async def test_a_client_that_never_reads_costs_little_and_is_cut_off() -> None:
    impatient = Timings(streams=sse.Timings(write_seconds=0.3, farewell_seconds=0.1))
    loop = asyncio.get_running_loop()
    shelf = Shelf()
    shelf.put(ONE, 1)
    async with (
        served(shelf, timings=impatient) as (surface, client),
        connected(surface.port, receive_bytes=4096) as deaf,
    ):
        await loop.sock_sendall(deaf, STREAM)
        await eventually(_open(surface), lambda count: count == 1)
        transport = _first_transport(surface)
        async with client.stream("/v1/me/credits/stream", token()) as quick:
            version, unsent = 1, 0
            async with asyncio.timeout(60):
                while counted(surface, "streams_closed", reason="lagging") == 0:
                    version += 1
                    shelf.put(ONE, version, filler="x" * 2000)
                    assert (await quick.until(version))[-1] == version, "nobody waits for the other"
                    unsent = max(unsent, transport.get_write_buffer_size())
        assert sse.WRITE_BYTES < unsent < sse.WRITE_BYTES + 4096, "a message too many, and no more"
        await eventually(_connections(surface), lambda count: count <= 1)


async def test_a_client_that_never_reads_does_not_hold_up_the_end() -> None:
    at_the_end = Timings(farewell_seconds=3600, streams=sse.Timings(write_seconds=3600, farewell_seconds=0.1))
    loop = asyncio.get_running_loop()
    shelf = Shelf()
    with socket.socket() as deaf:
        deaf.setblocking(False)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with asyncio.timeout(60), served(shelf, timings=at_the_end) as (surface, _):
            assert surface.port is not None
            await loop.sock_connect(deaf, ("127.0.0.1", surface.port))
            await loop.sock_sendall(deaf, STREAM)
            await eventually(_open(surface), lambda count: count == 1)
            transport = _first_transport(surface)
            versions = itertools.count(1)

            async def unsent() -> int:
                shelf.put(ONE, next(versions), filler="x" * 8000)
                return transport.get_write_buffer_size()

            await eventually(unsent, lambda count: count > sse.WRITE_BYTES)
        assert counted(surface, "streams_open") == 0
        assert counted(surface, "streams_closed") == counted(surface, "streams_closed", reason="gone") == 1


async def test_a_client_that_reads_slowly_jumps_to_the_newest() -> None:
    loop = asyncio.get_running_loop()
    shelf = Shelf()
    shelf.put(ONE, 1)
    async with served(shelf) as (surface, client), connected(surface.port, receive_bytes=4096) as slow:
        await loop.sock_sendall(slow, STREAM)
        await eventually(_open(surface), lambda count: count == 1)
        async with client.stream("/v1/me/credits/stream", token()) as quick:
            for version in range(2, 402):
                shelf.put(ONE, version, filler="x" * 2000)
                await quick.until(version)
        received = b""
        async with asyncio.timeout(60):
            while b"id: 401\n" not in received:
                received += await loop.sock_recv(slow, 65536)
        versions = [int(line.split(b" ")[1]) for line in received.split(b"\n") if line.startswith(b"id: ")]
        assert versions == sorted(set(versions))
        assert len(versions) < 200, "what it did not read in time it is spared"


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    shelf = Shelf()
    loop = asyncio.get_running_loop()
    head = f"Host: x\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    async with served(shelf) as (surface, _), connected(surface.port) as link, asyncio.timeout(60):
        users = [f"00000000-0000-0000-0000-{number:012d}" for number in range(20)]
        requests = "".join(f"GET /v1/users/{user}/credits HTTP/1.1\r\n{head}" for user in users)
        await loop.sock_sendall(link, requests.encode())
        received = b""
        while received.count(b'"success":true') < len(users):
            received += await loop.sock_recv(link, 65536)
        told = [part[:36].decode() for part in received.split(b'"user_id":"')[1:]]
        assert told == users


def _first_transport(surface: HttpServer) -> asyncio.Transport:
    assert surface._runner is not None
    assert surface._runner.server is not None
    transport = surface._runner.server.connections[0].transport
    assert transport is not None
    return transport


def _connections(surface: HttpServer) -> Callable[[], Awaitable[int]]:
    async def count() -> int:
        return counted(surface, "http_connections")

    return count


def _open(surface: HttpServer) -> Callable[[], Awaitable[int]]:
    async def count() -> int:
        return counted(surface, "streams_open")

    return count
