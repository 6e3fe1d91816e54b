from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiohttp import web

from creditsd.domain.errors import SinkUnavailable
from tests.sinks.harness import total
from tests.sinks.webhook_harness import KEY, PASSWORD, SECRET, Receiver, always, opened


async def test_an_answer_of_ten_megabytes_is_not_read(receiver: Receiver) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=400)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                await response.write(b"x" * 10_000)
                sent += 10_000
        return response

    receiver.answer = endless
    async with opened(receiver) as sink:
        (rejection,) = await sink.deliver([total()])
        assert len(rejection.reason) <= 200
        receiver.answer = always(200)
        assert list(await sink.deliver([total()])) == []
    await receiver.stop()
    assert sent < 9_000_000


async def test_a_compressed_answer_is_not_unpacked(receiver: Receiver) -> None:
    receiver.answer = always(400, "not gzip at all", Content_Encoding="gzip")
    async with opened(receiver) as sink:
        (rejection,) = await sink.deliver([total()])
    assert rejection.reason == "answered 400: not gzip at all"


async def test_an_answer_that_repeats_our_secrets_does_not_get_them_into_an_error(receiver: Receiver) -> None:
    receiver.answer = always(400, f"got {SECRET} {KEY} {PASSWORD}")
    async with opened(receiver) as sink:
        (rejection,) = await sink.deliver([total()])
    assert "***" in rejection.reason
    assert not any(secret in rejection.reason for secret in (SECRET, KEY, PASSWORD))


async def test_garbage_for_an_answer_is_told() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(b"\x00\x01 what? \r\n\r\n")
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with server:
        receiver = Receiver()
        receiver.port = server.sockets[0].getsockname()[1]
        async with opened(receiver) as sink:
            with pytest.raises(SinkUnavailable, match=f"sink billing: 127.0.0.1:{receiver.port}: "):
                await sink.deliver([total()])


async def test_a_name_nobody_knows_is_told(receiver: Receiver) -> None:
    async with opened(receiver, host="no-such-host.invalid") as sink:
        with pytest.raises(SinkUnavailable, match=r"sink billing: no-such-host\.invalid:"):
            await sink.deliver([total()])


async def test_nobody_listening_is_told(receiver: Receiver) -> None:
    await receiver.stop()
    async with opened(receiver) as sink:
        with pytest.raises(SinkUnavailable, match="refused"):
            await sink.deliver([total()])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    receiver.answer = always(status, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")
    async with opened(receiver) as sink:
        (rejection,) = await sink.deliver([total()])
    assert rejection.status == status
    assert "redirects are not followed" in rejection.reason
    assert len(receiver.deliveries) == 1


async def test_a_body_that_drips_keeps_nobody_waiting_for_its_end(receiver: Receiver) -> None:
    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            await response.write(b"x")
            await receiver.silence(request)
        return response

    receiver.answer = dripping
    async with opened(receiver) as sink, asyncio.timeout(60):
        assert list(await sink.deliver([total()])) == []
        receiver.answer = always(200)
        assert list(await sink.deliver([total()])) == []


async def test_a_body_that_never_begins_changes_nothing_about_the_status(receiver: Receiver) -> None:
    async def withheld(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=422, headers={"Content-Length": "100"})
        await response.prepare(request)
        await receiver.silence(request)
        return response

    receiver.answer = withheld
    async with opened(receiver) as sink, asyncio.timeout(60):
        (rejection,) = await sink.deliver([total()])
    assert rejection.reason == "answered 422"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX-Endless: " + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
    ],
)
async def test_what_is_no_answer_of_http_counts_as_away_and_is_told_in_one_line(answer: bytes) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with server:
        receiver = Receiver()
        receiver.port = server.sockets[0].getsockname()[1]
        async with opened(receiver) as sink, asyncio.timeout(60):
            with pytest.raises(SinkUnavailable, match=f"sink billing: 127.0.0.1:{receiver.port}: ") as failure:
                await sink.deliver([total()])
    assert len(str(failure.value)) < 300
    assert "\n" not in str(failure.value)
    assert PASSWORD not in str(failure.value)
