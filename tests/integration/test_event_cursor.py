"""What a sink is told of what happened: once, in order, and nothing that was passed by while it was away."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from creditsd.admin.failed_deliveries import FailedDeliveries
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.events import TYPES
from creditsd.domain.total import Total
from creditsd.postgres.connections import pool
from creditsd.sinks import Rejection
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, Line, configured, tried, user
from tests.integration.publishing import QUICK, current
from tests.integration.running import running, until
from tests.integration.telling import Choosing, Stage, settings_of
from tests.sinks.webhook_harness import Delivery, Receiver


@pytest.fixture
async def stage(fractions: Database) -> AsyncIterator[Stage]:
    settings = settings_of(fractions)
    async with (
        Line.settled(settings) as line,
        pool(settings.dsn, purpose="publisher", max_size=2) as connections,
    ):
        yield Stage(line, fractions, connections)


async def test_what_happens_is_told_as_it_happens_after_the_total_and_before_the_plan(stage: Stage) -> None:
    sink = Choosing()
    await stage.put(100)
    async with stage.publishing(sink) as publisher:
        await current(publisher)
        for amount in (10, 9, 50):
            publisher.offer(await stage.put(amount))
            await current(publisher)
        stage.database.run("UPDATE user_credits SET status = 'over'")
        publisher.offer(await stage.line.settle())
        await current(publisher)
    assert sink.types() == [
        "credits.updated",
        *("credits.updated", "credits.low"),
        "credits.updated",
        *("credits.updated", "credits.recovered"),
        *("credits.updated", "credits.depleted", "plan.expired"),
    ]
    cursor, after = stage.saved()
    assert cursor == after


async def test_a_restart_between_store_and_delivery_tells_once(stage: Stage) -> None:
    await stage.put(100)
    first, second, third = Choosing(), Choosing(), Choosing()
    await stage.tell(first)
    await stage.put(5)
    await stage.tell(second)
    await stage.put(4)
    await stage.tell(third)
    assert [each.types() for each in (first, second, third)] == [
        ["credits.updated"],
        ["credits.updated", "credits.low"],
        ["credits.updated"],
    ]


async def test_whoever_was_away_is_told_what_still_stands(stage: Stage) -> None:
    ways = {
        user(1): (5, ["credits.low"]),
        user(2): (5, 0, ["credits.depleted"]),
        user(3): (5, 0, 7, ["credits.low"]),
        user(4): (5, 60, ["credits.recovered"]),
        user(5): (0, 60, 55, ["credits.recovered"]),
        user(6): (60, 70, []),
        user(7): (0, 7, []),
    }
    for name in ways:
        await stage.put(100, name)
    await stage.tell(Choosing())
    for name, (*amounts, _) in ways.items():
        await stage.goes(*amounts, name=name)  # type: ignore[arg-type]
    sink = Choosing()
    await stage.tell(sink)
    for name, (*_, expected) in ways.items():
        assert (name, sink.types(name)) == (name, ["credits.updated", *expected])  # type: ignore[misc]
    assert len(sink.totals) == len(ways)


async def test_a_total_that_is_not_new_is_not_told_as_new(stage: Stage) -> None:
    await stage.put(100)
    await stage.tell(Choosing())
    (old,) = stage.stored
    # As a plan's end that comes near would: a newer version of the same total.
    stage.database.run(
        "UPDATE creditsd.balances SET version = version + 1, events = jsonb_build_object("
        "'plan.expiring_soon', jsonb_build_object('version', version + 1), "
        "'credits.updated', jsonb_build_object('version', version))"
    )
    stage.stored.append(old._replace(version=old.version + 1))
    sink = Choosing()
    await stage.tell(sink)
    assert sink.types() == ["plan.expiring_soon"]
    assert stage.saved() == (old.version + 1, old.version + 1)


async def test_a_daemon_tells_of_an_end_when_it_is_near_and_not_again_after_a_restart(stage: Stage) -> None:
    settings = configured(stage.database, events={"expiring_soon_days": 1 / 24})
    sink, later = Choosing(), Choosing()
    async with running(settings, sink) as daemon:
        await until(daemon, "state", "leading")
        end = datetime.now(UTC) + timedelta(hours=1, seconds=0.8)
        stage.database.run(
            "INSERT INTO user_credits (user_id, credits, status, expires_at) VALUES (%s, 60, 'active', %s)", [USER, end]
        )
        await sink.until(lambda: "plan.expiring_soon" in sink.types())
        assert datetime.now(UTC) >= end - timedelta(hours=1)
        assert sink.types() == ["credits.updated", "plan.expiring_soon"]
    async with running(settings, later):
        stage.database.run("UPDATE user_credits SET credits = 70")
        await later.until_credits(USER, 70)
    assert later.types() == ["credits.updated"]


# More than a page behind.


async def test_what_lies_behind_the_cursor_when_its_total_comes_is_told(stage: Stage) -> None:
    for number in range(6):
        await stage.put(100, user(number))
    await stage.tell(Choosing())
    await stage.put(5, user(0))
    for number in range(1, 6):
        await stage.put(90, user(number))
    await stage.put(4, user(0))  # now the last of all, long after what happened
    sink = Choosing(max_batch=2)
    await stage.tell(sink)
    assert sink.types(user(0)) == ["credits.updated", "credits.low"]
    cursor, after = stage.saved()
    assert cursor == after


async def test_who_changes_again_while_the_sink_catches_up_is_told_once(stage: Stage) -> None:
    for number in range(6):
        await stage.put(100, user(number))
    await stage.tell(Choosing())
    for number in range(6):
        await stage.put(5, user(number))
    sink = Choosing(max_batch=2)
    sink.gate.clear()
    async with stage.publishing(sink) as publisher:
        tries = partial(tried, sink)
        await eventually(tries)
        publisher.offer(await stage.put(4, user(0)))  # read with the first page, and again with the last
        sink.gate.set()
        await current(publisher)
    assert sink.types(user(0)) == ["credits.updated", "credits.low", "credits.updated"]


async def test_a_restart_in_the_middle_of_catching_up_loses_nothing(stage: Stage) -> None:
    for number in range(6):
        await stage.put(100, user(number))
    await stage.tell(Choosing())
    await stage.put(5, user(0))
    for number in range(1, 6):
        await stage.put(90, user(number))
    await stage.put(4, user(0))
    sink = Choosing(max_batch=2)

    class Breaking(Choosing):
        async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
            if self.deliveries:
                raise SinkUnavailable("after the first page")
            return await super().deliver(totals)

    broken = Breaking(max_batch=2)
    async with stage.publishing(broken) as publisher:

        async def error() -> str | None:
            return publisher.error

        await eventually(error)
    cursor, after = stage.saved()
    assert after < cursor
    assert user(0) not in broken.newest
    await stage.tell(sink)
    assert sink.types(user(0)) == ["credits.updated", "credits.low"]


async def test_whatever_happens_in_whatever_order_each_thing_is_told_once(stage: Stage) -> None:
    chance = random.Random("events")
    names = [user(number) for number in range(7)]
    told: Counter[tuple[str, str, int]] = Counter()
    sink = Choosing(max_batch=2)
    for _ in range(2):
        async with stage.publishing(sink) as publisher:
            for step in range(14):
                sink.failure = SinkUnavailable("away") if step < 10 else None
                publisher.offer(await stage.put(chance.choice((0, 5, 20, 80, 90)), chance.choice(names)))
            sink.failure = None
            await current(publisher)
        told = Counter((name, event.type, event.version) for name, event in sink.told)
        newest = {total.user_id: total for total in stage.stored}
        standing = {(name, each.type, each.version) for name, total in newest.items() for each in total.events}
        assert standing <= set(told)
        assert told.most_common(1)[0][1] == 1
    assert {kind for _, kind, _ in told} == {"credits.updated", "credits.low", "credits.depleted", "credits.recovered"}


# Refused.


async def test_of_what_was_refused_only_the_rest_is_tried_again_and_a_newer_total_takes_it_along(
    stage: Stage,
) -> None:
    sink = Choosing()
    await stage.goes(100, name=OTHER)
    await stage.goes(100)
    await stage.tell(sink)
    sink.told.clear()
    sink.refuses_types = {"credits.low"}
    await stage.goes(5)
    low = stage.stored[-1].version
    await stage.tell(sink)
    assert sink.types() == ["credits.updated"]
    assert stage.waiting() == [({"credits.updated": low},)]
    async with FailedDeliveries.opened(settings_of(stage.database)) as failed:
        assert (await failed.show("memory", USER)).accepted == ["credits.updated"]
    # A newer total, whose news is owed beside what is still owed of before; it is refused as well.
    await stage.goes(4)
    await stage.tell(sink)
    assert stage.waiting() == [({"credits.updated": stage.stored[-1].version},)]
    sink.refuses_types = set()
    stage.database.run("UPDATE creditsd.deliveries SET next_at = now()")
    async with stage.publishing(sink):
        await eventually(lambda: returned(stage.waiting()), lambda found: not found)
    assert [(event.type, event.version) for name, event in sink.told if name == USER] == [
        ("credits.updated", low),
        ("credits.updated", stage.stored[-1].version),
        ("credits.low", low),
    ]
    await stage.goes(3)
    await stage.tell(sink)
    assert sink.types()[3:] == ["credits.updated"]


async def returned(value: Any) -> Any:
    return value


async def test_what_was_refused_and_no_longer_stands_is_not_told(stage: Stage) -> None:
    sink = Choosing()
    await stage.goes(100)
    await stage.tell(sink)
    sink.refuses_types = {"credits.low"}
    await stage.goes(5)
    await stage.tell(sink)
    await stage.goes(60)
    await stage.tell(sink)
    assert sink.types() == ["credits.updated"] * 3 + ["credits.recovered"]
    assert stage.waiting() == []


async def test_a_sink_that_is_told_every_step_is_told_what_each_brought(stage: Stage) -> None:
    sink = Choosing(max_batch=2)
    await stage.goes(100, name=OTHER)
    await stage.goes(100, 5, 4, 60)
    await stage.tell(sink, every=True)
    assert sink.types() == [
        "credits.updated",
        *("credits.updated", "credits.low"),
        "credits.updated",
        *("credits.updated", "credits.recovered"),
    ]
    sink.told.clear()
    sink.refuses_types = {"credits.low"}
    await stage.goes(3, 2, 0)
    await stage.goes(90, name=OTHER)
    await stage.tell(sink, every=True)
    assert sink.types() == ["credits.updated"]
    sink.refuses_types = set()
    stage.database.run("UPDATE creditsd.deliveries SET next_at = now()")
    async with stage.publishing(sink, every=True):
        await eventually(lambda: returned(stage.waiting()), lambda found: not found)
    assert sink.types() == [
        *("credits.updated", "credits.low"),
        "credits.updated",
        *("credits.updated", "credits.depleted"),
    ]


# A real webhook.


def brief(deliveries: list[Delivery]) -> list[tuple[str, str]]:
    return [(each.document["type"], each.headers["webhook-id"]) for each in deliveries]


async def test_killed_between_delivery_and_saving_it_tells_again_by_the_same_ids(stage: Stage) -> None:
    receiver = Receiver()
    await receiver.start()
    try:
        await stage.put(100)
        await stage.tell(receiver.make(events=list(TYPES)))
        receiver.deliveries.clear()
        await stage.put(0)

        async def arrived() -> int:
            return len(receiver.deliveries)

        before = stage.saved()
        async with stage.publishing(receiver.make(events=list(TYPES)), killed=True):
            await eventually(arrived, lambda found: found == 2)
        stage.database.run("UPDATE creditsd.sinks SET cursor = %s, events_after = %s", before)
        await stage.tell(receiver.make(events=list(TYPES)))
        first, again = brief(receiver.deliveries[:2]), brief(receiver.deliveries[2:])
        assert [kind for kind, _ in first] == ["credits.updated", "credits.depleted"]
        assert first == again
        # The one who waited has a newer total by then; what happened is still the same.
        await stage.put(-3)
        stage.database.run("UPDATE creditsd.sinks SET cursor = %s, events_after = %s", before)
        await stage.tell(receiver.make(events=list(TYPES)))
        updated, depleted = brief(receiver.deliveries[4:])
        assert updated[1] != first[0][1]
        assert depleted == first[1]
        assert receiver.deliveries[-1].data["credits"] == -3
    finally:
        await receiver.stop()


async def test_a_refused_event_is_sent_again_by_its_id_and_the_accepted_one_is_not(
    stage: Stage,
) -> None:
    stage.timings = replace(QUICK, retry_delays_seconds=(0.01, 3600.0))
    receiver = Receiver()
    await receiver.start()

    async def once(request: web.Request) -> web.StreamResponse:
        kind = json.loads(await request.read())["type"]
        refused = kind == "credits.depleted" and len(receiver.deliveries) == 2
        return web.Response(status=500 if refused else 204)

    try:
        await stage.goes(100, name=OTHER)
        await stage.goes(100)
        await stage.tell(receiver.make(events=["credits.updated", "credits.depleted"]))
        receiver.deliveries.clear()
        receiver.answer = once
        await stage.goes(0)

        async def arrived() -> int:
            return len(receiver.deliveries)

        async with stage.publishing(receiver.make(events=["credits.updated", "credits.depleted"])):
            await eventually(arrived, lambda found: found == 3)
            await eventually(lambda: returned(stage.waiting()), lambda found: not found)
        updated, refused, again = brief(receiver.deliveries)
        assert updated[0] == "credits.updated"
        assert refused == again
        assert again[0] == "credits.depleted"
    finally:
        await receiver.stop()
