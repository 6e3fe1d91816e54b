from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from creditsd.domain.events import TYPES, Event
from creditsd.domain.total import Total
from creditsd.sinks import SinkBusy
from tests.sinks.harness import VERSION, total
from tests.sinks.webhook_harness import Answer, Delivery, Receiver, accept, opened

UPDATED = Event("credits.updated", VERSION)
LOW = Event("credits.low", VERSION - 7, {"threshold": 20})
EXPIRED = Event("plan.expired", VERSION, {"plan": {"planType": "subscription", "membership": "Pro"}})


def owing(user_id: str, *events: Event, **changed: Any) -> Total:
    return total(user_id, happened=events, **changed)


def types(deliveries: list[Delivery], user_id: str) -> list[str]:
    return [each.document["type"] for each in deliveries if each.data["user_id"] == user_id]


def refusing(kind: str, status: int) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status if json.loads(await request.read())["type"] == kind else 204)

    return answer


async def test_what_is_owed_arrives_one_after_the_other_and_only_what_was_chosen(receiver: Receiver) -> None:
    at_once: set[str] = set()

    async def one_at_a_time(request: web.Request) -> web.StreamResponse:
        name = json.loads(await request.read())["data"]["user_id"]
        assert name not in at_once
        at_once.add(name)
        response = await accept(request)
        at_once.remove(name)
        return response

    receiver.answer = one_at_a_time
    totals = [owing(f"u{number}", UPDATED, LOW, EXPIRED) for number in range(40)]
    async with opened(receiver, events=list(TYPES), concurrency=8) as sink:
        assert list(await sink.deliver(totals)) == []
    for number in range(40):
        assert types(receiver.deliveries, f"u{number}") == ["credits.updated", "credits.low", "plan.expired"]
    receiver.deliveries.clear()
    async with opened(receiver, events=["plan.expired"]) as sink:
        # Nothing that was chosen is owed: no request is made, and the totals are through.
        assert list(await sink.deliver([total("u1"), owing("u2", UPDATED, LOW), owing("u3")])) == []
        assert receiver.deliveries == []
        assert list(await sink.deliver(totals[:2])) == []
    assert [each.document["type"] for each in receiver.deliveries] == ["plan.expired"] * 2


async def test_an_event_is_the_total_now_with_what_belongs_to_it(receiver: Receiver) -> None:
    async with opened(receiver, events=list(TYPES)) as sink:
        await sink.deliver([owing("u1", UPDATED, LOW, EXPIRED, cause="expiry")])
    for delivery in receiver.deliveries:
        delivery.verify()
    updated, low, expired = (each.document for each in receiver.deliveries)
    assert list(low) == ["type", "timestamp", "data"]
    assert low["data"] == updated["data"] | {"threshold": 20}
    assert expired["data"] == updated["data"] | {"plan": {"planType": "subscription", "membership": "Pro"}}
    assert updated["timestamp"] == expired["timestamp"] == "2026-11-22T10:00:00.123456Z"
    # What an older version brought happened when that version was made.
    happened = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=LOW.version)
    assert low["timestamp"] == happened.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def test_the_id_is_the_events_own(receiver: Receiver) -> None:
    newer = VERSION + 1
    async with opened(receiver, events=list(TYPES)) as sink:
        await sink.deliver([owing("u1", UPDATED, LOW, Event("plan.expired", LOW.version))])
        await sink.deliver([owing("u1", Event("credits.updated", newer), LOW, version=newer)])
        await sink.deliver([total("u1", version=newer)])
        await sink.deliver([owing("u2", LOW)])
    found = [each.headers["webhook-id"] for each in receiver.deliveries]
    updated, low, expired, updated_anew, low_again, plain, other = found
    assert low == low_again
    assert plain == updated_anew
    assert len({updated, low, expired, updated_anew, other}) == 5


@pytest.mark.parametrize("status", [500, 503])
async def test_what_was_accepted_before_something_was_not_is_told(receiver: Receiver, status: int) -> None:
    receiver.answer = refusing("credits.low", status)
    totals = [owing("u1", UPDATED, LOW, EXPIRED), owing("u2", UPDATED, EXPIRED), owing("u3", LOW)]
    async with opened(receiver, events=list(TYPES), concurrency=1) as sink:
        if status == 500:
            first, third = await sink.deliver(totals)
            assert third.accepted == ()
        else:
            with pytest.raises(SinkBusy) as busy:
                await sink.deliver(totals)
            (first,) = busy.value.refused
            assert busy.value.through == 1
    assert (first.total, first.status, first.accepted) == (totals[0], status, (UPDATED,))
    assert types(receiver.deliveries, "u1") == ["credits.updated", "credits.low"]
