"""A webhook with a bounded rate: whoever waits for a turn is told the newest, and nobody waits at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from aiohttp import web

from creditsd.delivery.publisher import Publisher
from tests.conftest import Database, eventually
from tests.integration.line import Line, user
from tests.integration.publishing import ADD, QUICK, Publishing, current, made, newest, waiting
from tests.sinks.webhook_harness import Answer, Receiver, accept, always

USERS = [user(number) for number in range(4)]
OVER = "INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES (%s, 0, 'expired', 'subscription')"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


def held_until(go_on: asyncio.Event, status: int = 200) -> Answer:
    async def held(_: web.Request) -> web.StreamResponse:
        await go_on.wait()
        return web.Response(status=status)

    return held


async def handed_over_together(installation: Database, line: Line, publisher: Publisher) -> None:
    for each in USERS:
        installation.run(ADD, [each, 1])
    publisher.offer(await line.settle())


async def test_whoever_waits_for_a_turn_is_told_the_newest_total_and_no_other(
    installation: Database, line: Line, publishing: Publishing, receiver: Receiver
) -> None:
    go_on = asyncio.Event()
    receiver.answer = held_until(go_on)
    async with publishing(receiver.make(per_second=20, concurrency=1)) as publisher:
        await handed_over_together(installation, line, publisher)
        await receiver.asked(1)
        for _ in range(2):  # while the others wait
            installation.run(ADD, [USERS[2], 1])
            publisher.offer(await line.settle())
        go_on.set()
        await current(publisher)
    told = [(each.data["user_id"], each.data["credits"]) for each in receiver.deliveries]
    assert sorted(told) == [(USERS[0], 1), (USERS[1], 1), (USERS[2], 3), (USERS[3], 1)]
    assert await waiting(installation)() == 0


async def test_what_happened_to_somebody_is_told_although_a_newer_total_follows(
    installation: Database, line: Line, publishing: Publishing, receiver: Receiver
) -> None:
    go_on = asyncio.Event()
    options = {"per_second": 20, "concurrency": 1, "events": ["credits.updated", "plan.expired"]}
    async with publishing(receiver.make(**options)) as publisher:
        await handed_over_together(installation, line, publisher)
        await current(publisher)
        receiver.answer = held_until(go_on)
        for each in USERS[:2]:
            installation.run(ADD, [each, 1])
        installation.run("UPDATE user_credits SET status = 'expired' WHERE user_id = %s", [USERS[2]])
        publisher.offer(await line.settle())
        await receiver.asked(len(USERS) + 1)
        for each in (USERS[2], USERS[1]):  # while both wait
            installation.run(OVER if each == USERS[2] else ADD, [each] if each == USERS[2] else [each, 5])
        publisher.offer(await line.settle())
        go_on.set()
        await current(publisher)
    told = [(each.document["type"], each.data["hasEverHadSubscription"]) for each in receiver.deliveries]
    assert [kind for kind, _ in told].count("plan.expired") == 1
    assert told[-1][1] or told[-2][1], "the newest total comes too"
    assert [each.data["credits"] for each in receiver.deliveries if each.data["user_id"] == USERS[1]] == [1, 7]


@pytest.mark.parametrize("how", ["another daemon leads for a while", "the receiver is away for a while"])
async def test_a_total_that_was_taken_back_keeps_nobody_from_being_told(
    installation: Database, line: Line, publishing: Publishing, receiver: Receiver, how: str
) -> None:
    go_on, away = asyncio.Event(), how == "the receiver is away for a while"
    receiver.answer = held_until(go_on, 503 if away else 200)
    async with publishing(receiver.make(per_second=20, concurrency=1)) as publisher:
        await handed_over_together(installation, line, publisher)
        await receiver.asked(1)
        stored = await newest(line)
        publisher.offer([made(stored + 1, USERS[1])])  # which the server has lost
        if not away:
            publisher.step_down()
            publisher.lead(stored)
        go_on.set()
        before = 1
        if away:
            await eventually(error_of(publisher))
            before, receiver.answer = len(receiver.deliveries), accept
        await receiver.asked(before + len(USERS))
        await current(publisher)
    assert {each.data["user_id"] for each in receiver.deliveries[before:]} == set(USERS)


def error_of(publisher: Publisher) -> Callable[[], Awaitable[str | None]]:
    async def error() -> str | None:
        return publisher.error

    return error


@pytest.mark.parametrize("how", ["end", "leave"])
async def test_an_end_waits_for_no_turn_and_whoever_did_is_told_by_the_next(
    installation: Database, line: Line, publishing: Publishing, receiver: Receiver, how: str
) -> None:
    async with publishing(receiver.make(per_second=0.01)) as publisher:
        await handed_over_together(installation, line, publisher)
        await receiver.asked(1)
        async with asyncio.timeout(60):  # and the next turn is a hundred seconds away
            if how == "leave":
                publisher.leave()
            else:
                await publisher.end()
    ((cursor, error),) = installation.run("SELECT cursor, last_error FROM creditsd.sinks")
    assert cursor < await newest(line)
    assert error is None
    async with publishing(receiver.make(), newest=await newest(line)) as publisher:
        await current(publisher)
    assert {each.data["user_id"] for each in receiver.deliveries} == set(USERS)
    assert await waiting(installation)() == 0


@pytest.mark.parametrize("waited", [False, True], ids=["at the cursor", "for another try"])
async def test_an_end_in_the_middle_of_a_refused_batch_costs_nobody_a_try(
    installation: Database, line: Line, publishing: Publishing, receiver: Receiver, waited: bool
) -> None:
    if waited:
        receiver.answer = always(422)
        timings = replace(QUICK, retry_delays_seconds=(3600.0,))
        async with publishing(receiver.make(batch=4), timings=timings) as publisher:
            await handed_over_together(installation, line, publisher)
            await eventually(waiting(installation), lambda found: found == len(USERS))
        installation.run("UPDATE creditsd.deliveries SET next_at = now()")
    else:
        for each in USERS:
            installation.run(ADD, [each, 1])
        await line.settle()
    receiver.answer, before = always(422), len(receiver.deliveries)
    timings = replace(QUICK, retry_delays_seconds=(3600.0,))
    sink = receiver.make(batch=4, per_second=0.01)
    async with publishing(sink, newest=await newest(line), timings=timings) as publisher:
        await receiver.asked(before + 1)
    assert len(receiver.deliveries) == before + 1
    assert await waiting(installation, "attempt > 1 OR next_at IS NULL")() == 0
    assert await waiting(installation)() == (len(USERS) if waited else 0)
    receiver.answer = accept
    async with publishing(receiver.make(batch=4), newest=await newest(line)) as publisher:
        await eventually(waiting(installation), lambda found: not found)
        await current(publisher)
