"""Users whose deliveries are refused may stand together, more of them than make a sink ill: the others are told."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest
from aiohttp import web

from creditsd.delivery.timings import BOUNDS
from creditsd.domain.errors import SinkUnavailable
from tests.conftest import Database, eventually
from tests.integration.line import Line, MemorySink, tried, user
from tests.integration.publishing import ADD, QUICK, Publishing, Reachable, current, newest, waiting
from tests.sinks.webhook_harness import Receiver

ADD_MANY = "INSERT INTO user_credits (user_id, credits, status) SELECT unnest(%s::uuid[]), 1, 'active'"
KEEP_ALL = """
    INSERT INTO creditsd.history (
        user_id, version, updated_at, credits, membership_status, plan_type, can_buy, has_ever_had_subscription, cause
    )
    SELECT
        user_id, version, updated_at, credits, membership_status, plan_type, can_buy, has_ever_had_subscription, cause
    FROM creditsd.balances
    ON CONFLICT DO NOTHING
"""
KEPT = "INSERT INTO creditsd.history_kept (days, whole_after, upto) VALUES (7, 0, %s) ON CONFLICT DO NOTHING"


def keep_all(database: Database) -> None:
    """Have what is stored be in the history, too."""
    database.run(KEEP_ALL)
    database.run(KEPT, [2**60])


@pytest.mark.parametrize(
    ("answered", "options"),
    [
        ((404, 100), {}),
        ((500, 100), {}),
        ((404, 25), {"per_second": 10}),
        ((500, 6), {"per_second": 4}),
        ((500, 8), {"per_second": 4, "batch": 2}),
    ],
    ids=str,
)
async def test_users_who_are_refused_next_to_each_other_stop_nobody_behind_them(
    installation: Database,
    line: Line,
    publishing: Publishing,
    answered: tuple[int, int],
    options: dict[str, int],
) -> None:
    status, ill = answered
    refused, others = {user(number) for number in range(ill)}, {user(1000 + number) for number in range(5)}
    for part in (refused, others):  # of the first each version is lower
        for name in sorted(part):
            installation.run(ADD, [name, 1])
        await line.settle()
    receiver = Receiver()
    await receiver.start()
    told: set[str] = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        data = json.loads(await request.read())["data"]
        users = {each["user_id"] for each in data.get("totals", [data])}
        if users & refused:
            return web.Response(status=status)
        told.update(users)
        return web.Response()

    receiver.answer = answer
    timings = replace(QUICK, retry_delays_seconds=(3600.0,))
    try:
        async with publishing(receiver.make(**options), newest=await newest(line), timings=timings) as publisher:
            await current(publisher)
            assert publisher.error is None
            assert told == others
            assert await waiting(installation)() == ill
    finally:
        await receiver.stop()


@pytest.mark.parametrize("every", [False, True], ids=["newest", "every"])
async def test_more_who_are_refused_than_a_probe_looks_at_stop_nobody_behind_them(
    installation: Database, line: Line, publishing: Publishing, every: bool
) -> None:
    ill = {user(number) for number in range(1100)}
    others = {user(2000 + number) for number in range(5)}
    for part in (ill, others):
        installation.run(ADD_MANY, [sorted(part)])
        await line.settle()
    if every:
        keep_all(installation)
    receiver = Receiver()
    await receiver.start()
    told: set[str] = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        name = json.loads(await request.read())["data"]["user_id"]
        if name in ill:
            return web.Response(status=404)
        told.add(name)
        return web.Response()

    receiver.answer = answer
    timings = replace(QUICK, longest_pause_seconds=0.02, retry_delays_seconds=(3600.0,))
    try:
        started = publishing(receiver.make(), newest=await newest(line), every=every, timings=timings)
        async with started as publisher:
            await current(publisher)
            assert told == others
            assert await waiting(installation)() == len(ill)
    finally:
        await receiver.stop()


@pytest.mark.parametrize("every", [False, True], ids=["newest", "every"])
async def test_somebody_in_the_middle_is_found_where_many_are_refused_at_both_ends(
    installation: Database, line: Line, publishing: Publishing, every: bool
) -> None:
    front, well, back = (sorted(user(first + number) for number in range(40)) for first in (0, 100, 200))
    for part in (front, well, back):
        installation.run(ADD_MANY, [part])
        await line.settle()
    if every:
        keep_all(installation)
    sink = MemorySink(max_batch=10)
    sink.refuses = {*front, *back}
    timings = replace(QUICK, longest_pause_seconds=0.02, retry_delays_seconds=(3600.0,))
    bounds = replace(BOUNDS, probed_from=25, refused_together=10)
    started = publishing(sink, newest=await newest(line), every=every, timings=timings, bounds=bounds)
    async with started as publisher:
        await sink.until(lambda: set(sink.newest) == set(well))
        installation.run(ADD, [user(300), 1])  # or nobody is left who could show that the last of them are to blame
        totals = await line.settle()
        if every:
            keep_all(installation)
        publisher.offer(totals)
        await eventually(waiting(installation), lambda found: found == 80)


async def test_who_was_told_from_beyond_a_page_is_not_told_the_older_total_of_that_page(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    for number in range(5):
        installation.run(ADD, [user(number), 1])
        await line.settle()
    installation.run(
        "INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, next_at, last_error) "
        "VALUES ('memory', %s, 1, 1, now() + interval '1 hour', 'not today')",
        [user(0)],
    )
    sink = MemorySink(max_batch=3)
    sink.failure = SinkUnavailable("away")
    bounds = replace(BOUNDS, probed_from=3)
    sink.gate.clear()

    tries = partial(tried, sink)
    async with publishing(Reachable(sink), newest=await newest(line), bounds=bounds) as publisher:
        await eventually(tries, lambda found: found == 1)
        sink.gate.set()
        sink.gate.clear()
        await eventually(tries, lambda found: found == 2)
        async with installation.connect() as somebody:
            await somebody.execute("BEGIN")
            await somebody.execute("LOCK creditsd.deliveries IN ACCESS EXCLUSIVE MODE")
            sink.gate.set()
            await eventually(page_is_read(installation))
            sink.failure = None
            installation.run(ADD, [user(1), 1])
            publisher.offer(await line.settle())
            await somebody.execute("COMMIT")
        await current(publisher)
    told = [int(each.credits) for each in sink.totals if each.user_id == user(1)]
    assert told[0] == 2, "from beyond the page"
    assert told == sorted(told)
    assert set(sink.newest) == {user(number) for number in range(5)}


def page_is_read(database: Database) -> Callable[[], Awaitable[int]]:
    """Whether a publisher waits to know who of its page has to wait, while somebody has locked that table."""

    async def waits() -> int:
        query = "SELECT count(*) FROM pg_locks WHERE relation = 'creditsd.deliveries'::regclass AND NOT granted"
        return int(database.run(query)[0][0])

    return waits
