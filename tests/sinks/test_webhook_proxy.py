from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.sinks import Sink, make
from tests.sinks.harness import total
from tests.sinks.webhook_harness import KEY, SECRET, Receiver

HUNTER = "hunter2:hunter2"


class Proxy:
    """A forward proxy that sends everything to one receiver, whatever name was asked for."""

    def __init__(self, receiver: Receiver) -> None:
        self.asked: list[str] = []
        self.heads: list[bytes] = []
        self.refuses = False
        self._receiver = receiver
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://{HUNTER}@127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
            self.asked.append(f"{method} {target}")
            if self.refuses:
                writer.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            elif method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await reader.read(1 << 16)  # a greeting of TLS, to which there is no answer
            else:
                await self._pass_on(reader, writer, head)
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        there, onward = await asyncio.open_connection("127.0.0.1", self._receiver.port)
        path = b"/" + head.split(b" ")[1].split(b"/", 3)[3]
        lines = head.split(b"\r\n")
        onward.write(b"\r\n".join([b"POST " + path + b" HTTP/1.1", b"Connection: close", *lines[1:]]))
        onward.write(await reader.readexactly(length))
        writer.write(await there.read())
        onward.close()


@pytest.fixture
async def proxy(receiver: Receiver) -> AsyncIterator[Proxy]:
    made = Proxy(receiver)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@contextlib.asynccontextmanager
async def behind(proxy: Proxy, url: str, **options: Any) -> AsyncIterator[Sink]:
    given = {"secret": SECRET, "proxy": proxy.url} | options
    sink = make(SinkSettings(name="billing", url=url, options=given))
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


async def test_everything_goes_through_the_proxy_which_resolves_the_name(receiver: Receiver, proxy: Proxy) -> None:
    async with behind(proxy, "webhook+http://hooks.invalid/credits") as sink:
        assert list(await sink.deliver([total()])) == []
    assert proxy.asked == ["POST http://hooks.invalid/credits"]
    user = base64.b64encode(HUNTER.encode())
    assert b"proxy-authorization: basic " + user.lower() in proxy.heads[0].lower()
    receiver.deliveries[0].verify()


async def test_https_goes_through_the_proxy_as_a_tunnel_which_sees_nothing(proxy: Proxy) -> None:
    async with behind(proxy, "webhook+https://hooks.invalid/credits") as sink:
        with pytest.raises(SinkUnavailable):
            await sink.deliver([total()])
    assert proxy.asked == ["CONNECT hooks.invalid:443"]
    assert KEY.encode() not in proxy.heads[0]
    assert b"webhook-id" not in proxy.heads[0]


async def test_a_proxy_that_refuses_the_tunnel_is_told_without_its_password(proxy: Proxy) -> None:
    proxy.refuses = True
    async with behind(proxy, "webhook+https://hooks.invalid/credits") as sink:
        with pytest.raises(SinkUnavailable, match=r"hooks\.invalid:443: the proxy answered 407") as failure:
            await sink.deliver([total()])
    assert "hunter2" not in str(failure.value)


async def test_a_proxy_that_is_not_there_is_told_without_its_password(proxy: Proxy) -> None:
    async with behind(proxy, "webhook+https://hooks.invalid/credits") as sink:
        await proxy.stop()
        with pytest.raises(SinkUnavailable, match="refused") as failure:
            await sink.deliver([total()])
    assert "hunter2" not in str(failure.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "2130706433", "127.1", "0x7f000001", "0177.0.0.1",
        "2852039166", "127.0.0.1.",
    ],
)  # fmt: skip
def test_an_inside_address_in_the_url_is_refused_before_the_proxy_is_asked(host: str) -> None:
    options = {"secret": SECRET, "proxy": "http://proxy.example:3128"}
    with pytest.raises(ConfigError, match="is not a public address: list it in allow_cidrs"):
        make(SinkSettings(name="billing", url=f"webhook+https://{host}/x", options=options))
    allowed = options | {"allow_cidrs": ["0.0.0.0/0", "::/0"]}
    make(SinkSettings(name="billing", url=f"webhook+https://{host}/x", options=allowed))


@pytest.mark.parametrize("proxy", ["proxy:3128", "socks5://u:hunter2@h:1080", "http://", "http://u:hunter2@h:x"])
def test_a_wrong_proxy_is_one_line_without_its_password(proxy: str) -> None:
    with pytest.raises(ConfigError, match="proxy is not http://") as failure:
        make(SinkSettings(name="billing", url="webhook+https://h/x", options={"secret": SECRET, "proxy": proxy}))
    assert "hunter2" not in str(failure.value)
