"""Requests that take too long, told apart from those that somebody else cancels."""

from __future__ import annotations

import asyncio

import pytest

from creditsd.sinks.webhook.time_limit import TimeLimit

SHORT = 0.05
LONG = 3_600.0


async def never_answered(limit: TimeLimit, begun: asyncio.Event | None = None) -> None:
    with limit:
        if begun is not None:
            begun.set()
        await asyncio.Event().wait()


async def answered(limit: TimeLimit) -> str:
    with limit:
        await asyncio.sleep(0)
    return "answered"


async def lost_as_it_ends(limit: TimeLimit) -> None:
    with limit:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionResetError from None


async def test_each_of_many_requests_is_ended_in_the_order_in_which_they_began() -> None:
    limit, ended = TimeLimit(SHORT), list[int]()

    async def request(number: int) -> None:
        with pytest.raises(TimeoutError):
            await never_answered(limit)
        ended.append(number)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(request(number))
            await asyncio.sleep(SHORT / 10)
    assert ended == list(range(20))


async def test_none_is_ended_early() -> None:
    limit, loop = TimeLimit(SHORT), asyncio.get_running_loop()
    for _ in range(5):
        began = loop.time()
        with pytest.raises(TimeoutError):
            await never_answered(limit)
        assert loop.time() - began >= SHORT * 0.95  # how finely a clock ticks


async def test_one_that_was_answered_is_not_ended_later_nor_is_what_its_task_does_next() -> None:
    limit, later = TimeLimit(SHORT), asyncio.Event()

    async def quick() -> str:
        heard = await answered(limit)
        await later.wait()
        return heard

    async with asyncio.timeout(60):
        first = asyncio.create_task(quick())
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):  # it began after the first, so the first one's time is up as well
            await never_answered(limit)
        later.set()
        assert await first == "answered"


async def test_a_task_has_its_time_anew_with_each_request() -> None:
    limit = TimeLimit(SHORT)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await never_answered(limit)
        assert await answered(limit) == "answered"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_task_that_somebody_else_cancels_stays_cancelled() -> None:
    limit, begun = TimeLimit(LONG), asyncio.Event()
    task = asyncio.create_task(never_answered(limit, begun))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_so_does_one_whose_time_is_up_in_the_same_moment() -> None:
    limit, begun = TimeLimit(SHORT), asyncio.Event()

    async def cancelled_as_it_ends() -> None:
        with limit:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                task.cancel()
                raise

    task = asyncio.create_task(cancelled_as_it_ends())
    async with asyncio.timeout(60):
        await begun.wait()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_failure_of_the_request_is_its_own() -> None:
    limit = TimeLimit(SHORT)
    with pytest.raises(ConnectionResetError), limit:
        raise ConnectionResetError
    with pytest.raises(ConnectionResetError):
        await lost_as_it_ends(limit)
    assert await answered(limit) == "answered"


async def test_a_limit_within_another_ends_what_is_its_own() -> None:
    limit = TimeLimit(SHORT)
    async with asyncio.timeout(LONG):
        with pytest.raises(TimeoutError), limit:
            async with asyncio.timeout(LONG):
                await asyncio.Event().wait()
    with limit:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        assert await asyncio.sleep(0, "on") == "on"
