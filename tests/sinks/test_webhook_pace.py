from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest
from aiohttp import web

from creditsd.brokers.http import retry_after_seconds
from creditsd.domain.errors import SinkUnavailable
from creditsd.sinks import SinkBusy, SinkRefusing
from tests.sinks.harness import total
from tests.sinks.webhook_harness import Answer, Receiver, accept, always, opened


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


async def test_an_answer_that_asks_for_patience_ends_the_batch_and_says_how_much_of_it_is_through(
    receiver: Receiver,
) -> None:
    async def limited(request: web.Request) -> web.StreamResponse:
        busy = len(receiver.deliveries) in (9, 10)
        return web.Response(status=429 if busy else 200, headers={"Retry-After": "3"} if busy else {})

    receiver.answer = limited
    totals = [total(f"u{i}") for i in range(50)]
    async with opened(receiver, concurrency=2) as sink:
        with pytest.raises(SinkBusy, match="answered 429") as failure:
            await sink.deliver(totals)
    busy = failure.value
    asked = {each.data["user_id"] for each in receiver.deliveries}
    assert asked == {each.user_id for each in totals[: busy.through]}
    assert busy.through in (9, 10)
    assert 1 <= len(busy.refused) <= 2
    assert {each.status for each in busy.refused} == {429}
    assert busy.retry_after_seconds == 3


async def test_an_endpoint_that_dies_within_a_batch_is_asked_for_no_more_of_it(receiver: Receiver) -> None:
    async def dying(request: web.Request) -> web.StreamResponse:
        if len(receiver.deliveries) > 10:
            assert request.transport is not None
            request.transport.abort()
        return web.Response()

    receiver.answer = dying
    async with opened(receiver, concurrency=4) as sink:
        with pytest.raises(SinkBusy) as failure:
            await sink.deliver([total(f"u{i}") for i in range(50)])
    assert failure.value.through <= 14
    assert 1 <= len(failure.value.refused) <= 4


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_requests_at_once_are_halved_for_each_such_answer_and_grow_back_one_by_one(
    receiver: Receiver, status: int
) -> None:
    async def most_at_once(answer: Answer, requests: int) -> int:
        """How many lines the next batch has: nobody is answered until as many are there."""
        arrived, enough = 0, asyncio.Event()

        async def together(request: web.Request) -> web.StreamResponse:
            nonlocal arrived
            arrived += 1
            if arrived == requests:
                enough.set()
            await enough.wait()
            return await answer(request)

        receiver.most_at_once, receiver.answer = 0, together
        with contextlib.suppress(SinkBusy):
            await sink.deliver([total(f"u{i}") for i in range(64)])
        return receiver.most_at_once

    busy = always(status)
    async with opened(receiver, concurrency=16) as sink:
        assert await most_at_once(busy, 16) == 16
        assert await most_at_once(busy, 8) == 8
        assert await most_at_once(accept, 4) == 4
        assert await most_at_once(accept, 5) == 5
        assert await most_at_once(accept, 6) == 6


async def test_a_few_users_whose_deliveries_fail_do_not_stop_everyone_else_for_good(receiver: Receiver) -> None:
    ill = {f'"u{number}"'.encode() for number in range(10)}

    async def ill_for_some(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        return web.Response(status=503 if any(each in body for each in ill) else 200)

    receiver.answer = ill_for_some
    totals = [total(f"u{number}") for number in range(30)]
    async with opened(receiver, concurrency=1) as sink:
        for through in (0, 0, 11):
            with pytest.raises(SinkBusy) as failure:
                await sink.deliver(totals)
            assert failure.value.through == through
            assert len(failure.value.refused) == max(0, through - 1)


async def test_an_endpoint_that_does_not_answer_costs_one_time_out_and_not_one_per_total(
    receiver: Receiver,
) -> None:
    receiver.answer = receiver.silence
    async with opened(receiver, timeout_seconds=2, concurrency=4) as sink:
        async with asyncio.timeout(60):
            with pytest.raises(SinkUnavailable, match="no answer in time"):
                await sink.deliver([total(f"u{i}") for i in range(200)])
    assert len(receiver.deliveries) == 4


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


async def test_a_receiver_that_refuses_everyone_from_the_middle_of_a_batch_on_is_not_sent_the_rest_of_it(
    receiver: Receiver,
) -> None:
    async def breaking(request: web.Request) -> web.StreamResponse:
        return web.Response(status=200 if len(receiver.deliveries) <= 100 else 401, text="out of order")

    receiver.answer = breaking
    totals = [total(f"u{i}") for i in range(1024)]
    async with opened(receiver, concurrency=16) as sink:
        with pytest.raises(SinkRefusing, match=r"by now, e\.g\. answered 401: out of order") as failure:
            await sink.deliver(totals)
    asked = {each.data["user_id"] for each in receiver.deliveries}
    assert asked == {each.user_id for each in totals[: failure.value.through]}
    assert 120 <= len(receiver.deliveries) <= 100 + 20 + 16
    assert len(failure.value.refused) == failure.value.through - 100


async def test_refusals_between_which_somebody_is_accepted_do_not_end_a_batch(receiver: Receiver) -> None:
    async def every_tenth(request: web.Request) -> web.StreamResponse:
        return web.Response(status=200 if len(receiver.deliveries) % 10 == 0 else 422)

    receiver.answer = every_tenth
    async with opened(receiver, concurrency=1) as sink:
        refused = await sink.deliver([total(f"u{i}") for i in range(200)])
    assert len(refused) == 180
