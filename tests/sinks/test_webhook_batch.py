"""Many users' totals in one request: what it says, and who is at fault where it is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import ConfigError
from creditsd.domain.total import Total
from creditsd.sinks import SinkBusy, SinkDisabled, SinkRefusing, SinkTroubled, make
from tests.records import record
from tests.sinks.harness import VERSION, total
from tests.sinks.webhook_batch_harness import listed
from tests.sinks.webhook_harness import SECRET, Answer, Receiver, accept, always, opened


def totals(count: int, first: int = 0) -> list[Total]:
    return [total(f"u{number}", version=VERSION + number) for number in range(first, first + count)]


def users(receiver: Receiver) -> list[list[str]]:
    """Return who was in each request."""
    return [[each["user_id"] for each in delivery.data["totals"]] for delivery in receiver.deliveries]


def over(ill: Collection[str], status: int) -> Answer:
    """Answer a batch with a status if one of these is in it."""

    async def answer(request: web.Request) -> web.StreamResponse:
        there = {each["user_id"] for each in json.loads(await request.read())["data"]["totals"]}
        return web.Response(status=status if there & set(ill) else 204)

    return answer


async def test_a_batch_is_one_signed_request_of_what_each_user_would_have_got(receiver: Receiver) -> None:
    before = record("0.10", version=VERSION - 1)
    sent = [
        total("Zoë", previous_record=before, cause="expiry"),
        total('"quoted"', version=VERSION + 1),
        total("u3", version=VERSION + 2),
    ]
    later = sent[1].updated_at + timedelta(seconds=1)
    sent[1] = sent[1]._replace(updated_at=later)
    async with opened(receiver) as sink:
        await sink.deliver(sent)
    single = {each.data["user_id"]: each.data for each in receiver.deliveries}
    receiver.deliveries.clear()
    async with opened(receiver, batch=10) as sink:
        assert list(await sink.deliver(sent)) == []
    (delivery,) = receiver.deliveries
    delivery.verify()
    assert list(delivery.document) == ["type", "timestamp", "data"]
    assert delivery.document["type"] == "credits.batch"
    assert delivery.document["timestamp"] == "2026-11-22T10:00:01.123456Z"
    assert delivery.data == {"totals": [single[each.user_id] for each in sent]}


async def test_batches_are_full_and_each_user_is_once_in_them_by_ascending_version(receiver: Receiver) -> None:
    async with opened(receiver, batch=100) as sink:
        assert list(await sink.deliver(totals(950))) == []
    assert sorted(map(len, users(receiver))) == [50, *[100] * 9]
    for delivery in receiver.deliveries:
        versions = [each["version"] for each in delivery.data["totals"]]
        assert versions == sorted(set(versions))
    assert sorted(each["user_id"] for each in listed(receiver)) == sorted(each.user_id for each in totals(950))


async def test_the_id_names_who_is_in_it_and_stays_over_retries(receiver: Receiver) -> None:
    async with opened(receiver, batch=10) as sink:
        for part in (totals(3), totals(3), totals(2), totals(3, 1), [each._replace(version=1) for each in totals(3)]):
            await sink.deliver(part)
    ids = [each.headers["webhook-id"] for each in receiver.deliveries]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


@pytest.mark.parametrize("status", [400, 413, 422, 500])
async def test_the_one_at_fault_is_found_and_nobody_else_is_refused(receiver: Receiver, status: int) -> None:
    receiver.answer = over({"u77"}, status)
    async with opened(receiver, batch=100) as sink:
        refused = await sink.deliver(totals(300))
        assert [(each.total.user_id, each.status) for each in refused] == [("u77", status)]
        assert len(receiver.deliveries) <= 3 + 2 * 7
        receiver.deliveries.clear()
        assert [each.total.user_id for each in await sink.deliver(totals(100))] == ["u77"]
        assert sorted(map(len, users(receiver))) == [1, 22, 77], "nobody goes with whoever was at fault"


async def test_several_at_fault_are_each_found(receiver: Receiver) -> None:
    ill = {f"u{number}" for number in (0, 1, 50, 98, 99)}
    receiver.answer = over(ill, 422)
    async with opened(receiver, batch=100) as sink:
        refused = await sink.deliver(totals(100))
        assert {each.total.user_id for each in refused} == ill
        receiver.answer = accept
        assert list(await sink.deliver(totals(100))) == []
        receiver.deliveries.clear()
        assert list(await sink.deliver(totals(100))) == []
    assert list(map(len, users(receiver))) == [100], "who has arrived goes with the others again"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_that_has_too_much_to_do_gets_no_more_requests_the_next_time(
    receiver: Receiver, status: int
) -> None:
    receiver.answer = over({"u5"}, status)
    async with opened(receiver, batch=10) as sink:
        refused = await sink.deliver(totals(40))
        assert [each.total.user_id for each in refused] == [f"u{number}" for number in range(10)]
        receiver.answer = accept
        receiver.deliveries.clear()
        assert list(await sink.deliver([each.total for each in refused])) == []
    assert list(map(len, users(receiver))) == [10]


@pytest.mark.parametrize("status", [500, 521])
async def test_a_receiver_that_is_ill_is_found_so_in_few_requests_and_nobody_is_at_fault(
    receiver: Receiver, status: int
) -> None:
    receiver.answer = always(status, "out of order")
    async with opened(receiver, batch=1000) as sink:
        with pytest.raises(SinkTroubled, match=f"answered {status}: out of order") as failure:
            await sink.deliver(totals(1000))
        assert failure.value.through == len(failure.value.refused) == 1000
        assert len(receiver.deliveries) <= 20
        receiver.answer = accept
        receiver.deliveries.clear()
        assert list(await sink.deliver(totals(1000))) == []
    assert list(map(len, users(receiver))) == [1000]


async def test_a_receiver_that_refuses_everyone_is_not_asked_for_each_of_them(receiver: Receiver) -> None:
    receiver.answer = always(401)
    async with opened(receiver, batch=1000) as sink:
        with pytest.raises(SinkRefusing, match="refuses everyone by now") as failure:
            await sink.deliver(totals(1000))
    assert not isinstance(failure.value, SinkTroubled)
    assert failure.value.through == len(failure.value.refused) == 1000
    assert len(receiver.deliveries) <= 60


async def test_a_pause_and_a_farewell_count_for_all_of_them(receiver: Receiver) -> None:
    receiver.answer = always(429, Retry_After="7")
    async with opened(receiver, batch=10, concurrency=1) as sink:
        with pytest.raises(SinkBusy) as failure:
            await sink.deliver(totals(100))
        assert (failure.value.retry_after_seconds, failure.value.through) == (7, 0)
        assert len(receiver.deliveries) == 4
        receiver.answer = always(410)
        with pytest.raises(SinkDisabled):
            await sink.deliver(totals(100))


async def test_a_rate_counts_requests_and_those_that_look_for_the_fault_too(receiver: Receiver) -> None:
    receiver.answer = over({"u0"}, 422)
    async with opened(receiver, batch=8, per_second=50) as sink:
        assert sink.max_batch == 400
        began = time.monotonic()
        assert len(await sink.deliver(totals(40))) == 1
        took = time.monotonic() - began
    assert len(receiver.deliveries) == 5 + 2 * 3
    assert took >= 10 / 50 * 0.95


async def test_nobody_who_is_owed_nothing_is_in_it(receiver: Receiver) -> None:
    nothing = [each._replace(happened=()) for each in totals(2)]
    async with opened(receiver, batch=2) as sink:
        assert list(await sink.deliver(nothing)) == []
        assert receiver.deliveries == []
        assert list(await sink.deliver([nothing[0], *totals(1, 1)])) == []
    assert users(receiver) == [["u1"]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch": 0}, "batch: Input should be greater than or equal to 2"),
        ({"batch": 1}, "batch: Input should be greater than or equal to 2"),
        ({"batch": 1001}, "batch: Input should be less than or equal to 1000"),
        ({"batch": "many"}, "batch: Input should be a valid integer"),
        ({"batch": 10, "events": ["credits.low"]}, "batch is of totals alone: give other events a sink of their own"),
        ({"batch": 10, "events": ["credits.updated", "plan.expired"]}, "batch is of totals alone"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match="sink b: ") as failure:
        make(SinkSettings(name="b", url="webhook+https://h/x", options={"secret": SECRET} | options))
    assert says in str(failure.value)
    assert "\n" not in str(failure.value)
