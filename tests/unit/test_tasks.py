"""Tasks end, whatever becomes of whoever ends them."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from creditsd.daemon.tasks import begun, ended
from creditsd.domain.errors import DatabaseUnavailable


async def hard_of_hearing(times: int, begun: asyncio.Event) -> None:
    """Go on after a cancellation, so many times: as a driver has it go on that meets another error by it."""
    begun.set()
    for _ in range(times):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    await asyncio.Event().wait()


async def fails(when: asyncio.Event) -> None:
    await when.wait()
    raise DatabaseUnavailable("the session ended")


async def aborted(tasks: list[asyncio.Task[None]]) -> None:
    """A group that one of its tasks ends while its block ends the other one."""
    begun, failing = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks.append(group.create_task(hard_of_hearing(3, begun)))
        group.create_task(fails(failing))
        await begun.wait()
        try:
            raise DatabaseUnavailable("ours ended, too")
        finally:
            failing.set()  # the group then cancels them once, and whoever is in its block
            await ended(tasks)


async def test_they_end_though_their_group_is_aborted_meanwhile() -> None:
    tasks: list[asyncio.Task[None]] = []
    group = asyncio.create_task(aborted(tasks))
    await asyncio.wait([group], timeout=30)
    assert [each.done() for each in (*tasks, group)] == [True, True]
    with pytest.raises(ExceptionGroup):
        await group


async def test_whoever_ends_them_is_cancelled_once_they_have_ended() -> None:
    begun = asyncio.Event()
    slow = asyncio.create_task(hard_of_hearing(2, begun))
    await begun.wait()
    ending = asyncio.create_task(ended([slow]))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert slow.done()


async def test_work_that_is_cancelled_by_what_it_waits_for_does_not_end_in_silence() -> None:
    async def waits() -> None:
        answer = asyncio.get_running_loop().create_future()
        answer.cancel()
        await answer

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            begun(group, waits(), name="publisher of the cache")
            begun(group, asyncio.Event().wait())

    with pytest.raises(ExceptionGroup) as failed:
        await together()
    (failure,) = failed.value.exceptions
    assert str(failure) == "publisher of the cache was cancelled by what it waited for"


async def test_work_that_is_cancelled_in_order_ends_so() -> None:
    async with asyncio.TaskGroup() as group:
        task = begun(group, asyncio.Event().wait())
        await asyncio.sleep(0)
        await ended([task])
    assert task.cancelled()
