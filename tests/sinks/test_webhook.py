from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from creditsd import __version__
from creditsd.errors import ConfigError, SinkUnavailable
from creditsd.model import encode
from creditsd.settings import SinkSettings
from creditsd.sinks import Sink, SinkBusy, make
from creditsd.sinks.webhook import is_inside, retry_after_seconds
from tests.sinks.harness import VERSION, total
from tests.sinks.webhook_harness import KEY, PASSWORD, SECRET, Answer, Receiver

OTHER = "whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode()


@asynccontextmanager
async def opened(receiver: Receiver, **options: Any) -> AsyncIterator[Sink]:
    sink = receiver.make(**options)
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


def always(status: int, text: str = "", **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, headers=named)

    return answer


async def test_the_body_is_the_event_with_the_total_and_what_was_before(receiver: Receiver) -> None:
    before = {"credits": Decimal(10**30), "version": VERSION - 1, "message": "before"}
    async with opened(receiver) as sink:
        await sink.deliver([total(cause="expiry", previous_json=encode(before).decode())])
        await sink.deliver([total("u2", previous_json='{"credits": 0.10}')])
        await sink.deliver([total("u3")])
    first, second, third = receiver.deliveries
    assert list(first.document) == ["type", "timestamp", "data"]
    assert first.document["type"] == "credits.updated"
    assert first.document["timestamp"] == "2026-11-22T10:00:00.123456Z"
    assert first.data["cause"] == "expiry"
    assert first.data["previous"] == before
    assert first.body.startswith(
        b'{"type":"credits.updated","timestamp":"2026-11-22T10:00:00.123456Z","data":' + total().json()[:-1]
    )
    assert second.data["previous"] == {"credits": Decimal("0.1")}
    assert third.data["previous"] is None
    assert third.data["cause"] == "change"


async def test_the_official_verifier_accepts_what_arrives_and_nothing_changed(receiver: Receiver) -> None:
    async with opened(receiver) as sink:
        await sink.deliver([total("Zoë")])
    (delivery,) = receiver.deliveries
    delivery.verify()
    with pytest.raises(WebhookVerificationError):
        Verifier(SECRET).verify(delivery.body.replace(b"120", b"121"), delivery.headers)
    with pytest.raises(WebhookVerificationError):
        delivery.verify(OTHER)


async def test_during_a_rotation_either_secret_verifies(receiver: Receiver) -> None:
    async with opened(receiver, secret="", secrets=[SECRET, OTHER]) as sink:
        await sink.deliver([total()])
    (delivery,) = receiver.deliveries
    delivery.verify(SECRET)
    delivery.verify(OTHER)
    assert len(delivery.headers["webhook-signature"].split(" ")) == 2


@pytest.mark.parametrize("written", [SECRET, KEY, KEY.rstrip("="), f" {SECRET}\n"])
async def test_a_secret_may_be_written_with_or_without_prefix_and_padding(
    receiver: Receiver, written: str
) -> None:
    async with opened(receiver, secret=written) as sink:
        await sink.deliver([total()])
    receiver.deliveries[0].verify(SECRET)


async def test_the_headers_tell_who_sends_what(receiver: Receiver) -> None:
    async with opened(receiver) as sink:
        await sink.deliver([total()])
    headers = receiver.deliveries[0].headers
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == f"creditsd/{__version__}"
    assert headers["Authorization"].startswith("Basic ")
    assert abs(int(headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60


async def test_the_id_is_stable_over_attempts_and_restarts_and_new_for_every_version(
    receiver: Receiver,
) -> None:
    async with opened(receiver) as sink:
        await sink.deliver([total()])
        await sink.deliver([total()])
        await sink.deliver([total(version=VERSION + 1)])
        await sink.deliver([total("u2")])
    async with opened(receiver) as sink:
        await sink.deliver([total()])
    first, again, newer, other, restarted = (each.headers["webhook-id"] for each in receiver.deliveries)
    assert first == again == restarted
    assert len({first, newer, other}) == 3


async def test_connections_are_kept_and_at_most_concurrency_posts_run_at_once(receiver: Receiver) -> None:
    full = asyncio.Event()

    async def together(request: web.Request) -> web.StreamResponse:
        if receiver.at_once == 8:
            full.set()
        await full.wait()
        return web.Response()

    receiver.answer = together
    async with opened(receiver, concurrency=8) as sink:
        for _ in range(3):
            assert list(await sink.deliver([total(f"u{i}") for i in range(100)])) == []
    assert receiver.most_at_once == 8
    assert len(receiver.connections) == 8


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    receiver.answer = always(status, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")
    async with opened(receiver) as sink:
        (rejection,) = await sink.deliver([total()])
    assert rejection.status == status
    assert "redirects are not followed" in rejection.reason
    assert len(receiver.deliveries) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 409, 410, 422, 500, 501])
async def test_what_the_receiver_refuses_is_a_rejection(receiver: Receiver, status: int) -> None:
    receiver.answer = always(status, "no such\nuser \x1b[31m", Retry_After="7")
    async with opened(receiver) as sink:
        (rejection,) = await sink.deliver([total()])
    assert rejection.total == total()
    assert (rejection.status, rejection.retry_after_seconds) == (status, 7.0)
    assert rejection.reason == f"answered {status}: no such user [31m"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_busy_receiver_is_left_alone_for_as_long_as_it_says(receiver: Receiver, status: int) -> None:
    receiver.answer = always(status, "later", Retry_After="120")
    async with opened(receiver, concurrency=4) as sink:
        with pytest.raises(SinkBusy, match=f"answered {status}: later") as failure:
            await sink.deliver([total(f"u{i}") for i in range(50)])
    assert failure.value.retry_after_seconds == 120
    assert len(receiver.deliveries) == 4


async def test_one_refused_total_stops_nobody_else(receiver: Receiver) -> None:
    async def one_refused(request: web.Request) -> web.StreamResponse:
        user_id = (await request.json())["data"]["user_id"]
        return web.Response(status={"u3": 422, "u7": 503}.get(user_id, 200))

    receiver.answer = one_refused
    async with opened(receiver) as sink:
        rejections = await sink.deliver([total(f"u{i}") for i in range(20)])
    assert [(each.total.user_id, each.status) for each in rejections] == [("u3", 422), ("u7", 503)]


async def test_every_total_is_tried_once_when_the_first_answers_are_slow_failures(receiver: Receiver) -> None:
    async def only_the_last(request: web.Request) -> web.StreamResponse:
        user_id = (await request.json())["data"]["user_id"]
        return web.Response(status=200 if user_id == "u3" else 503)

    receiver.answer = only_the_last
    async with opened(receiver, concurrency=4) as sink:
        rejections = await sink.deliver([total(f"u{i}") for i in range(30)])
    assert len(receiver.deliveries) == 30
    assert len(rejections) == 29


async def test_an_endpoint_that_does_not_answer_costs_one_time_out_and_not_one_per_total(
    receiver: Receiver,
) -> None:
    receiver.answer = receiver.silence
    async with opened(receiver, timeout_seconds=0.3, concurrency=4) as sink:
        async with asyncio.timeout(5):
            with pytest.raises(SinkUnavailable, match="no answer in time"):
                await sink.deliver([total(f"u{i}") for i in range(200)])
    assert len(receiver.deliveries) == 4


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


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "127.1"]
)
async def test_loopback_is_refused_however_it_is_written(receiver: Receiver, host: str) -> None:
    async with opened(receiver, allow_cidrs=[], host=host) as sink:
        with pytest.raises(SinkUnavailable, match=r"allow_cidrs|not a canonical IPv4 address"):
            await sink.deliver([total()])
    assert receiver.deliveries == []


async def test_a_name_that_resolves_anew_to_an_inside_address_is_refused(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers another address the second time: the check is on the one connected to."""
    asked: list[str] = []
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def rebinding(host: Any, port: Any, **hints: Any) -> Any:
        asked.append(host)
        return await real("127.0.0.1", port, **hints)

    monkeypatch.setattr(loop, "getaddrinfo", rebinding)
    async with opened(receiver, allow_cidrs=["203.0.113.0/24"], host="hooks.example") as sink:
        with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1 is not a public address"):
            await sink.deliver([total()])
    assert asked == ["hooks.example"]
    assert receiver.deliveries == []


async def test_a_listed_network_is_allowed_and_its_neighbour_is_not(receiver: Receiver) -> None:
    async with opened(receiver, allow_cidrs=["127.0.0.1/32"]) as sink:
        assert list(await sink.deliver([total()])) == []
    async with opened(receiver, allow_cidrs=["127.0.0.2/32"]) as sink:
        with pytest.raises(SinkUnavailable):
            await sink.deliver([total()])


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "0.0.0.0", "169.254.169.254", "100.64.0.1",
        "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "203.0.113.9", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
        "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:db8::1",
        "::127.0.0.1", "fec0::1",
    ],
)  # fmt: skip
def test_an_address_of_the_inside_is_known_as_such(address: str) -> None:
    assert is_inside(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_an_address_of_the_public_internet_is_not_refused(address: str) -> None:
    assert not is_inside(ipaddress.ip_address(address))


def self_signed(directory: Path) -> ssl.SSLContext:
    key, certificate = directory / "key", directory / "certificate"
    new = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=elsewhere"
    subprocess.run([*new.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_wrong_certificate_is_told(tmp_path: Path) -> None:
    context = await asyncio.to_thread(self_signed, tmp_path)

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(nothing, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        sink = make(
            SinkSettings(
                name="billing",
                url=f"webhook+https://127.0.0.1:{port}/x",
                options={"secret": SECRET, "allow_cidrs": ["127.0.0.1"]},
            )
        )
        await sink.open()
        with pytest.raises(SinkUnavailable, match="certificate"):
            await sink.deliver([total()])
        await sink.close()


async def test_a_name_nobody_knows_is_told(receiver: Receiver) -> None:
    async with opened(receiver, host="no-such-host.invalid") as sink:
        with pytest.raises(SinkUnavailable, match=r"sink billing: no-such-host\.invalid:"):
            await sink.deliver([total()])


async def test_before_open_it_says_so() -> None:
    receiver = Receiver()
    with pytest.raises(SinkUnavailable, match="is not open"):
        await receiver.make().deliver([total()])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120),
        (" 0 ", 0),
        ("9" * 500, 86_400),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("Sun, 22 Nov 2026 10:01:00 GMT", 60),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0),
        ("Sun, 22 Nov 2099 09:00:00 GMT", 86_400),
        ("Sun, 99 Nov 2026 09:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, datetime(2026, 11, 22, 10, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"secret": ""}, 'need a secret: make one with: echo "whsec_$(openssl rand -base64 32)"'),
        ({"secret": "whsec_not base64!"}, "not whsec_ and base64: make one with"),
        ({"secret": "hunter2-hunter2"}, "not whsec_ and base64: make one with"),
        ({"secret": "hunter2hu"}, "not whsec_ and base64: make one with"),
        ({"secret": "whsec_"}, "not whsec_ and base64: make one with"),
        ({"secrets": [SECRET, "hunter2!"]}, "not whsec_ and base64: make one with"),
        ({"events": ["credits.gone"]}, "events.0: Input should be 'credits.updated'"),
        ({"events": []}, "events: "),
        ({"allow_cidrs": ["10.0.0.0/99"]}, "allow_cidrs.0: "),
        ({"concurrency": 0}, "concurrency: "),
        ({"secert": SECRET}, "unknown option 'secert': did you mean secret?"),
    ],
)
def test_a_wrong_option_is_one_line_without_the_secret(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as failure:
        make(SinkSettings(name="billing", url="webhook+https://h/x", options={"secret": SECRET} | options))
    assert says in str(failure.value)
    assert "\n" not in str(failure.value)
    assert "hunter2" not in str(failure.value)
    assert KEY not in str(failure.value)


@pytest.mark.parametrize(
    "url",
    [
        "webhook://h/x",
        "webhook+ftp://h/x",
        "webhook+https:",
        "webhook+https:///x",
        "webhook+https://u:hunter2@h:x/",
    ],
)
def test_a_wrong_url_is_one_line_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="webhook\\+https://") as failure:
        make(SinkSettings(name="billing", url=url, options={"secret": SECRET}))
    assert "hunter2" not in str(failure.value)


async def test_nobody_listening_is_told(receiver: Receiver) -> None:
    await receiver.stop()
    async with opened(receiver) as sink:
        with pytest.raises(SinkUnavailable, match="refused"):
            await sink.deliver([total()])
