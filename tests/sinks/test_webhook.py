from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from creditsd import __version__
from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.sinks import SinkDisabled, make
from tests.records import record
from tests.sinks.harness import VERSION, total
from tests.sinks.webhook_harness import KEY, SECRET, Receiver, always, opened


async def test_the_body_is_the_event_with_the_total_and_what_was_before(receiver: Receiver) -> None:
    async with opened(receiver) as sink:
        await sink.deliver([total(cause="expiry", previous_record=record(Decimal(10**30), version=VERSION - 1))])
        await sink.deliver([total("u2", previous_record=record("0.10"))])
        await sink.deliver([total("u3")])
    first, second, third = receiver.deliveries
    assert list(first.document) == ["type", "timestamp", "data"]
    assert first.document["type"] == "credits.updated"
    assert first.document["timestamp"] == "2026-11-22T10:00:00.123456Z"
    assert first.data["cause"] == "expiry"
    assert first.data["previous"] == {
        "version": VERSION - 1,
        "updated_at": "2026-11-22T09:00:00Z",
        "credits": Decimal(10**30),
        "membershipStatus": "active",
        "planType": "none",
        "canBuy": True,
        "hasEverHadSubscription": False,
        "subscription_id": None,
        "membership": None,
        "expires_at": None,
    }
    assert first.body.startswith(
        b'{"type":"credits.updated","timestamp":"2026-11-22T10:00:00.123456Z","data":' + total().json()[:-1]
    )
    assert second.data["previous"]["credits"] == Decimal("0.1")
    assert third.data["previous"] is None
    assert third.data["cause"] == "change"


async def test_the_headers_tell_who_sends_what(receiver: Receiver) -> None:
    async with opened(receiver) as sink:
        await sink.deliver([total()])
    headers = receiver.deliveries[0].headers
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == f"creditsd/{__version__}"
    assert headers["Authorization"].startswith("Basic ")
    assert abs(int(headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60


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


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 500, 501])
async def test_what_the_receiver_refuses_is_a_rejection(receiver: Receiver, status: int) -> None:
    receiver.answer = always(status, "no such\nuser \x1b[31m", Retry_After="7")
    async with opened(receiver) as sink:
        (rejection,) = await sink.deliver([total()])
    assert rejection.total == total()
    assert (rejection.status, rejection.retry_after_seconds) == (status, 7.0)
    assert rejection.reason == f"answered {status}: no such user \\x1b[31m"


async def test_before_open_it_says_so() -> None:
    receiver = Receiver()
    with pytest.raises(SinkUnavailable, match="is not open"):
        await receiver.make().deliver([total()])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"secret": ""}, 'need a secret: make one with: echo "whsec_$(openssl rand -base64 32)"'),
        ({"secret": "whsec_not base64!"}, "not whsec_ and base64: make one with"),
        ({"secret": "hunter2-hunter2"}, "not whsec_ and base64: make one with"),
        ({"secret": "hunter2hu"}, "not whsec_ and base64: make one with"),
        ({"secret": "whsec_"}, "not whsec_ and base64: make one with"),
        ({"secrets": [SECRET, "hunter2!"]}, "not whsec_ and base64: make one with"),
        (
            {"events": ["credits.low", "credits.gone"]},
            "events.1: Input should be 'credits.updated', 'credits.depleted', ",
        ),
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


async def test_an_endpoint_that_is_gone_wants_to_be_asked_no_more(receiver: Receiver) -> None:
    receiver.answer = always(410, "moved away", Retry_After="7")
    async with opened(receiver, concurrency=4) as sink:
        with pytest.raises(SinkDisabled, match=r"sink billing: 127\.0\.0\.1:\d+: answered 410: moved away"):
            await sink.deliver([total(f"u{i}") for i in range(50)])
    assert len(receiver.deliveries) <= 4


async def test_one_410_among_answers_is_enough(receiver: Receiver) -> None:
    async def gone_for_one(request: web.Request) -> web.StreamResponse:
        return web.Response(status=410 if b'"u3"' in await request.read() else 200)

    receiver.answer = gone_for_one
    async with opened(receiver, concurrency=1) as sink:
        with pytest.raises(SinkDisabled):
            await sink.deliver([total(f"u{i}") for i in range(50)])
    assert len(receiver.deliveries) == 4
