"""Endpoints behind TLS: whose certificate is trusted, and who shows their own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from creditsd.config.settings import SinkSettings, load
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.sinks import Sink, make
from tests.sinks.harness import total
from tests.sinks.webhook_harness import SECRET

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


async def openssl(*words: str) -> None:
    process = await asyncio.create_subprocess_exec("openssl", *words, stderr=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0


async def certificate(directory: Path, name: str, *more: str, subject: str = "") -> Path:
    """Make a certificate that nobody has signed, for 127.0.0.1, in one file with its key."""
    file, key = directory / f"{name}.pem", directory / f"{name}.key"
    encrypted = () if "-passout" in more else ("-nodes",)
    named = ("-subj", f"/CN={subject or name}", "-addext", "subjectAltName=IP:127.0.0.1")
    await openssl("req", "-x509", *encrypted, *CURVE, *named, "-keyout", str(key), "-out", str(file), *more)
    file.write_text(file.read_text() + key.read_text())
    return file


class Endpoint:
    """An endpoint that takes everything from whoever gets through to it, and notes the certificates shown."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.shown: list[str] = []

    def make(self, host: str = "127.0.0.1", **options: Any) -> Sink:
        given = {"secret": SECRET, "allow_cidrs": ["127.0.0.1"]} | options
        return make(SinkSettings(name="billing", url=f"webhook+https://{host}:{self.port}/x", options=given))


@asynccontextmanager
async def listening(own: Path, clients: Path | None = None) -> AsyncIterator[Endpoint]:
    """Listen with a certificate; with `clients`, only to those whose certificate that file has signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await reader.readuntil(b"\r\n\r\n")
            endpoint.shown.extend(
                value for ((_, value),) in (writer.get_extra_info("peercert") or {}).get("subject", ())
            )
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        endpoint = Endpoint(server.sockets[0].getsockname()[1])
        yield endpoint


@asynccontextmanager
async def opened(sink: Sink) -> AsyncIterator[Sink]:
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


async def test_a_wrong_certificate_is_told(tmp_path: Path) -> None:
    async with listening(await certificate(tmp_path, "here")) as endpoint, opened(endpoint.make()) as sink:
        with pytest.raises(SinkUnavailable, match="certificate"):
            await sink.deliver([total()])


async def test_a_certificate_of_another_name_is_told(tmp_path: Path) -> None:
    own = await certificate(tmp_path, "here")
    async with listening(own) as endpoint, opened(endpoint.make("localhost", ca=own.read_text())) as sink:
        with pytest.raises(SinkUnavailable, match="certificate"):
            await sink.deliver([total()])


async def test_a_certificate_of_ca_is_trusted(tmp_path: Path) -> None:
    own = await certificate(tmp_path, "here")
    async with listening(own) as endpoint, opened(endpoint.make(ca=own.read_text())) as sink:
        assert list(await sink.deliver([total()])) == []


async def test_ca_file_and_a_certificate_of_ours_are_read_from_a_configuration(tmp_path: Path) -> None:
    own, ours = await certificate(tmp_path, "here"), await certificate(tmp_path, "ours", subject="creditsd")
    async with listening(own, clients=ours) as endpoint:
        config = tmp_path / "creditsd.toml"
        config.write_text(
            f'[[sinks]]\nname = "billing"\nurl = "webhook+https://127.0.0.1:{endpoint.port}/x"\nsecret = "{SECRET}"\n'
            f'allow_cidrs = ["127.0.0.1"]\nca_file = "here.pem"\nclient_certificate = "{ours}"\n'
        )
        async with opened(make(load(config).sinks[0])) as sink:
            assert list(await sink.deliver([total("u1"), total("u2")])) == []
        assert set(endpoint.shown) == {"creditsd"}


async def test_who_asks_for_a_certificate_takes_nothing_from_whoever_has_none_or_another(
    tmp_path: Path,
) -> None:
    own, ours = await certificate(tmp_path, "here"), await certificate(tmp_path, "ours")
    other = await certificate(tmp_path, "other")
    async with listening(own, clients=ours) as endpoint:
        wrong: list[dict[str, Any]] = [{}, {"client_certificate": other}]
        for options in wrong:
            async with opened(endpoint.make(ca=own.read_text(), **options)) as sink:
                with pytest.raises(SinkUnavailable, match=r"sink billing: 127\.0\.0\.1:"):
                    await sink.deliver([total()])
        assert endpoint.shown == []
        async with opened(endpoint.make(ca=own.read_text(), client_certificate=ours)) as sink:
            assert list(await sink.deliver([total()])) == []
        assert endpoint.shown == ["ours"]


NO_CERTIFICATE = "client_certificate is not a PEM file of certificate and key, not encrypted"


async def test_what_is_no_certificate_with_its_key_is_told_without_asking_for_a_password(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    (tmp_path / "garbage.pem").write_text("garbage")
    whole = await certificate(tmp_path, "whole")
    (tmp_path / "alone.pem").write_text(whole.read_text().partition("-----BEGIN PRIVATE")[0])
    strange = await certificate(tmp_path, "strange")
    (tmp_path / "mixed.pem").write_text((tmp_path / "alone.pem").read_text() + (tmp_path / "strange.key").read_text())
    locked = await certificate(tmp_path, "locked", "-passout", "pass:hunter2")
    endpoint = Endpoint(1)
    assert "ENCRYPTED" in locked.read_text()
    endpoint.make(client_certificate=strange)
    for name in ("empty", "garbage", "alone", "mixed", "locked"):
        with pytest.raises(ConfigError, match=f"sink billing: {NO_CERTIFICATE}"):
            endpoint.make(client_certificate=tmp_path / f"{name}.pem")
    for missing in (tmp_path / "no such file", tmp_path):
        with pytest.raises(ConfigError, match="sink billing: client_certificate: Path does not point to a file"):
            endpoint.make(client_certificate=missing)


async def test_a_certificate_for_nobody_is_refused(tmp_path: Path) -> None:
    ours = await certificate(tmp_path, "ours")
    options = {"secret": SECRET, "client_certificate": ours}
    with pytest.raises(ConfigError, match="client_certificate needs webhook"):
        make(SinkSettings(name="billing", url="webhook+http://h/x", options=options))


async def test_a_bundle_is_trusted_whatever_language_its_comments_are_in(tmp_path: Path) -> None:
    own = await certificate(tmp_path, "here")
    bundle = f"NetLock Arany (Class Gold) Főtanúsítvány\n=====\n{own.read_text()}\n# Schlüssel\n"
    async with listening(own) as endpoint, opened(endpoint.make(ca=bundle)) as sink:
        assert list(await sink.deliver([total()])) == []


@pytest.mark.parametrize(
    "content",
    [
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nÄÖÜ\n-----END CERTIFICATE-----",
        "\x00\x7fELF\u00ff\n\ufffd",
    ],
)
def test_a_ca_that_is_no_certificate_is_told(content: str) -> None:
    with pytest.raises(ConfigError, match=r"^sink billing: ca is not a certificate in PEM$"):
        Endpoint(1).make(ca=content)
