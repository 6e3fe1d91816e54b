"""What waits for another try has no part in a receiver's illness, but for who is its cause."""

from __future__ import annotations

import json
from dataclasses import replace

from aiohttp import web

from creditsd.domain.errors import SinkUnavailable
from tests.conftest import Database, eventually
from tests.integration.line import Line, MemorySink, user
from tests.integration.publishing import (
    ADD,
    QUICK,
    Publishing,
    Reachable,
    current,
    newest,
    waiting,
)
from tests.sinks.webhook_harness import Receiver, accept, always


async def refused_before(installation: Database, line: Line, publishing: Publishing, count: int) -> None:
    """Have the totals of the first users be refused, each by itself, while everybody else's arrive."""
    sink = MemorySink()
    sink.refuses = {user(number) for number in range(count)}
    async with publishing(sink, timings=replace(QUICK, retry_delays_seconds=(3600.0,))) as publisher:
        for number in (*range(count), 100):
            installation.run(ADD, [user(number), 1])
        publisher.offer(await line.settle())
        await current(publisher)
    assert await waiting(installation, "attempt = 1")() == count


async def test_a_receiver_that_is_ill_costs_those_who_wait_no_try(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    await refused_before(installation, line, publishing, 8)
    installation.run("UPDATE creditsd.deliveries SET next_at = now()")
    receiver = Receiver()
    await receiver.start()
    receiver.answer = always(500)
    timings = replace(QUICK, retry_delays_seconds=(0.01,) * 3, witness_seconds=0.0)
    try:
        async with publishing(receiver.make(), newest=await newest(line), timings=timings) as publisher:
            await receiver.asked(40)
            assert "answered 500" in str(publisher.error)
            assert await waiting(installation, "attempt = 1 AND next_at <= now()")() == 8
            tried = {each.data["user_id"] for each in receiver.deliveries[-9:]}
            assert len(tried) > 1, "another user's each time"
            receiver.answer = accept
            await eventually(waiting(installation), lambda found: not found)
    finally:
        await receiver.stop()


async def test_whoever_breaks_a_receiver_on_which_others_arrive_is_to_blame_and_dies(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    await refused_before(installation, line, publishing, 6)
    installation.run("UPDATE creditsd.deliveries SET next_at = now()")
    receiver = Receiver()
    await receiver.start()
    ill = {user(number) for number in range(6)}

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=500 if json.loads(await request.read())["data"]["user_id"] in ill else 200)

    receiver.answer = answer
    timings = replace(QUICK, retry_delays_seconds=(0.01,) * 3)
    try:
        async with publishing(receiver.make(), newest=await newest(line), timings=timings) as publisher:

            async def dead() -> int:
                installation.run(ADD, [user(100), 1])
                publisher.offer(await line.settle())
                return await waiting(installation, "next_at IS NULL")()

            await eventually(dead, lambda found: found == 6)
    finally:
        await receiver.stop()


async def test_whoever_waits_for_another_try_is_tried_at_once_when_an_ill_sink_is_well(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    await refused_before(installation, line, publishing, 3)
    installation.run(
        "UPDATE creditsd.deliveries SET next_at = now() + interval '2 hours' WHERE user_id = %s", [user(1)]
    )
    installation.run("UPDATE creditsd.deliveries SET next_at = NULL WHERE user_id = %s", [user(2)])
    sink = MemorySink()
    timings = replace(QUICK, retry_delays_seconds=(3600.0,) * 3, pull_forward_seconds=0.0)
    async with publishing(Reachable(sink), newest=await newest(line), timings=timings) as publisher:
        sink.failure = SinkUnavailable("away")
        installation.run(ADD, [user(50), 1])
        publisher.offer(await line.settle())
        await sink.until(lambda: sink.tries >= 3)
        sink.refuses, sink.failure = {user(0)}, None
        await current(publisher)
        await sink.until(lambda: user(0) in {total.user_id for total in sink.totals})

        async def attempts() -> list[tuple[str, int]]:
            again = "SELECT user_id::text, attempt FROM creditsd.deliveries WHERE tried_at > refused_at"
            return installation.run(again)

        # One more failure is no further try of the schedule: it was the sink that was to blame for the pause.
        assert await eventually(attempts) == [(user(0), 1)]
        assert await waiting(installation)() == 3
        assert set(sink.newest) == {user(50)}
