"""An endpoint that is asked no more often than it allows."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web

from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import ConfigError
from creditsd.domain.events import Event
from creditsd.sinks import Paced, SinkBusy, SinkStopped, make
from tests.sinks.harness import VERSION, total
from tests.sinks.webhook_harness import SECRET, Receiver, always, opened

NEVER_EARLY = 0.95  # of what it must take at least: how finely a clock ticks


async def test_requests_are_spaced_over_batches_and_users(receiver: Receiver) -> None:
    async with opened(receiver, per_second=50) as sink:
        began = time.monotonic()
        for batch in range(2):
            assert list(await sink.deliver([total(f"u{batch}-{number}") for number in range(15)])) == []
        took = time.monotonic() - began
    assert len(receiver.deliveries) == 30
    assert took >= 29 / 50 * NEVER_EARLY


async def test_each_event_of_a_user_has_a_turn(receiver: Receiver) -> None:
    owed = (Event("credits.updated", VERSION), Event("credits.low", VERSION, {"threshold": 200}))
    async with opened(receiver, per_second=50, events=["credits.updated", "credits.low"]) as sink:
        began = time.monotonic()
        await sink.deliver([total(f"u{number}", happened=owed) for number in range(10)])
        took = time.monotonic() - began
    assert len(receiver.deliveries) == 20
    assert took >= 19 / 50 * NEVER_EARLY


@pytest.mark.parametrize(("per_second", "totals"), [(0.01, 1), (0.5, 1), (10, 10), (10.9, 10), (1_000_000, 1024)])
def test_a_batch_is_a_seconds_worth_so_that_what_waits_is_the_newest(per_second: float, totals: int) -> None:
    assert Receiver().make(per_second=per_second).max_batch == totals


async def test_one_turn_in_a_hundred_seconds_lets_one_pass_and_keeps_nobody_after_the_last(receiver: Receiver) -> None:
    async with opened(receiver, per_second=0.01) as sink, asyncio.timeout(60):
        assert list(await sink.deliver([total()])) == []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await sink.deliver([total("u2")])
    assert len(receiver.deliveries) == 1


async def test_who_waits_for_a_turn_is_not_sent_once_the_endpoint_asks_for_a_pause(receiver: Receiver) -> None:
    receiver.answer = always(429, Retry_After="9")
    async with opened(receiver, per_second=20, concurrency=1) as sink:
        with pytest.raises(SinkBusy) as failure:
            await sink.deliver([total(f"u{number}") for number in range(20)])
    assert failure.value.retry_after_seconds == 9
    assert len(receiver.deliveries) == 4


async def test_slow_answers_do_not_make_it_slower(receiver: Receiver) -> None:
    several = asyncio.Event()

    async def together(request: web.Request) -> web.StreamResponse:
        if receiver.at_once == 3:
            several.set()
        await several.wait()
        return web.Response()

    receiver.answer = together
    async with opened(receiver, per_second=100) as sink, asyncio.timeout(60):
        assert list(await sink.deliver([total(f"u{number}") for number in range(6)])) == []


@pytest.mark.parametrize("per_second", [0, -1, "fast", float("inf"), float("nan"), 0.001])
def test_a_rate_that_is_none_is_refused(per_second: Any) -> None:
    with pytest.raises(ConfigError, match="sink b: per_second: Input should be"):
        make(SinkSettings(name="b", url="webhook+https://h/x", options={"secret": SECRET, "per_second": per_second}))


async def test_whoever_is_overtaken_while_they_wait_is_passed_over_without_a_turn(receiver: Receiver) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def held(_: web.Request) -> web.StreamResponse:
        began.set()
        await go_on.wait()
        return web.Response()

    receiver.answer = held
    overtaken: set[str] = set()
    async with opened(receiver, per_second=20, concurrency=1) as sink, asyncio.timeout(60):
        assert isinstance(sink, Paced)
        sink.heed(lambda each: each.user_id in overtaken)
        delivering = asyncio.create_task(sink.deliver([total(f"u{number}") for number in range(5)]))
        await began.wait()
        overtaken |= {"u1", "u2", "u4"}
        go_on.set()
        assert list(await delivering) == []
    assert [each.data["user_id"] for each in receiver.deliveries] == ["u0", "u3"]


async def test_a_batch_leaves_out_whoever_is_overtaken_when_its_turn_comes(receiver: Receiver) -> None:
    async with opened(receiver, per_second=20, batch=3) as sink, asyncio.timeout(60):
        assert isinstance(sink, Paced)
        sink.heed(lambda each: each.user_id in {"u1", "u3", "u4", "u5"})
        assert list(await sink.deliver([total(f"u{number}") for number in range(7)])) == []
    asked = [[each["user_id"] for each in delivery.data["totals"]] for delivery in receiver.deliveries]
    assert asked == [["u0", "u2"], ["u6"]]


@pytest.mark.parametrize("options", [{}, {"batch": 2}], ids=["alone", "batches"])
async def test_nobody_waits_for_a_turn_once_it_ends_and_whoever_did_has_not_begun(
    receiver: Receiver, options: dict[str, Any]
) -> None:
    async with opened(receiver, per_second=0.01, **options) as sink, asyncio.timeout(60):
        assert isinstance(sink, Paced)
        delivering = asyncio.create_task(sink.deliver([total(f"u{number}") for number in range(8)]))
        await receiver.asked(1)
        sink.hurry()
        with pytest.raises(SinkStopped) as stopped:
            await delivering
        assert (stopped.value.through, list(stopped.value.refused)) == (options.get("batch", 1), [])
        with pytest.raises(SinkStopped) as stopped:
            await sink.deliver([total("u9")])
        assert stopped.value.through == 0
    assert len(receiver.deliveries) == 1


async def test_of_whoever_was_not_told_all_nothing_is_settled_once_it_ends(receiver: Receiver) -> None:
    owed = (Event("credits.updated", VERSION), Event("credits.low", VERSION, {"threshold": 200}))
    options: dict[str, Any] = {"per_second": 0.01, "events": ["credits.updated", "credits.low"]}
    async with opened(receiver, **options) as sink, asyncio.timeout(60):
        assert isinstance(sink, Paced)
        delivering = asyncio.create_task(sink.deliver([total("u0", happened=owed)]))
        await receiver.asked(1)
        sink.hurry()
        with pytest.raises(SinkStopped) as stopped:
            await delivering
    assert (stopped.value.through, list(stopped.value.refused)) == (0, [])


@pytest.mark.parametrize("status", [422, 500])
async def test_of_a_refused_batch_nobody_is_refused_who_was_not_asked_alone_once_it_ends(
    receiver: Receiver, status: int
) -> None:
    receiver.answer = always(status)
    async with opened(receiver, per_second=0.01, batch=4) as sink, asyncio.timeout(60):
        assert isinstance(sink, Paced)
        delivering = asyncio.create_task(sink.deliver([total(f"u{number}") for number in range(4)]))
        await receiver.asked(1)
        sink.hurry()
        with pytest.raises(SinkStopped) as stopped:
            await delivering
    assert (stopped.value.through, list(stopped.value.refused)) == (0, [])
