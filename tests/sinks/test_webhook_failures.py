from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.sinks import Sink, make
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


@asynccontextmanager
async def secure_endpoint(directory: Path) -> AsyncIterator[int]:
    """An endpoint whose certificate nobody has signed, for 127.0.0.1; yields its port."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    new = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=here"
    named = [*new.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    process = await asyncio.create_subprocess_exec(*named, stderr=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def secure(port: int, **options: Any) -> Sink:
    given = {"secret": SECRET, "allow_cidrs": ["127.0.0.1"]} | options
    return make(SinkSettings(name="billing", url=f"webhook+https://127.0.0.1:{port}/x", options=given))


async def test_a_wrong_certificate_is_told(tmp_path: Path) -> None:
    async with secure_endpoint(tmp_path) as port:
        sink = secure(port)
        await sink.open()
        with pytest.raises(SinkUnavailable, match="certificate"):
            await sink.deliver([total()])
        await sink.close()


async def test_a_certificate_of_ca_file_is_trusted(tmp_path: Path) -> None:
    async with secure_endpoint(tmp_path) as port:
        sink = secure(port, ca_file=str(tmp_path / "certificate.pem"))
        await sink.open()
        assert list(await sink.deliver([total()])) == []
        await sink.close()


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), ("no certificate", "ca_file ")])
def test_a_ca_file_that_holds_no_certificate_is_told(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"sink billing: ca_file .*ca\.pem: ") as failure:
        secure(1, ca_file=str(file))
    assert says in str(failure.value)
