"""What the hub promises, whatever happens in whatever order."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creditsd.domain.errors import DatabaseUnavailable
from creditsd.http.hub import Closing, Listener
from tests.http.asking import ONE, TWO, Shelf

USERS = ["ann", "bob", "annbob"]

# Subscribe a user, drop the n-th listener, store a total, offer an old one late, read the n-th listener.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("listen"), st.sampled_from(USERS)),
        st.tuples(st.just("leave"), st.integers(0, 9)),
        st.tuples(st.just("put"), st.sampled_from(USERS)),
        st.tuples(st.just("late"), st.sampled_from(USERS)),
        st.tuples(st.just("take"), st.integers(0, 9)),
    ),
    max_size=60,
)


class Reader:
    """A listener, and all it was ever given."""

    def __init__(self, user_id: str, listener: Listener, end: AsyncExitStack) -> None:
        self.user_id = user_id
        self.listener = listener
        self.end = end
        self.versions: list[int] = []

    async def take(self) -> None:
        found = await self.listener.next(0)
        if found is None:
            return
        version, document = found
        assert json.loads(document) == {"user_id": self.user_id, "version": version, "of": self.user_id}
        self.versions.append(version)


async def play(story: list[tuple[str, Any]]) -> None:
    shelf = Shelf("text")
    readers: list[Reader] = []
    version = 0
    for what, of in story:
        match what:
            case "listen":
                end = AsyncExitStack()
                readers.append(Reader(of, await end.enter_async_context(shelf.hub.listening(of)), end))
            case "leave" if readers:
                await readers.pop(of % len(readers)).end.aclose()
            case "put":
                version += 1
                shelf.put(of, version, of=of)
            case "late" if of in shelf.totals:
                older = shelf.totals[of][0] - 1
                shelf.hub.offer(of, older, json.dumps({"user_id": of, "version": older, "of": of}).encode())
            case "take" if readers:
                await readers[of % len(readers)].take()
    listening = {reader.user_id for reader in readers}
    assert set(shelf.hub.users) == listening
    for reader in readers:
        while reader.listener._newest is not None:
            await reader.take()
        assert reader.versions == sorted(set(reader.versions))
        newest = shelf.totals.get(reader.user_id)
        if newest is not None:
            assert reader.versions[-1] == newest[0]
        await reader.end.aclose()
    assert not shelf.hub.users
    assert not shelf.hub._watched


@settings(deadline=None, max_examples=150)
@given(steps)
def test_everyone_gets_the_newest_of_their_own_user_in_order_and_nothing_else(story: list[tuple[str, Any]]) -> None:
    # A total of version 0 is nobody's, and says so in its own words: the stories begin with everyone known.
    known = [("put", user) for user in USERS]
    asyncio.run(play([*known, *story]))


async def test_a_slow_reader_gets_the_newest_and_never_a_queue() -> None:
    shelf = Shelf()
    async with shelf.hub.listening(ONE) as listener:
        assert (await listener.next(1) or (None,))[0] == 0
        for version in range(1, 10_001):
            shelf.put(ONE, version)
        assert (await listener.next(1) or (None,))[0] == 10_000
        assert await listener.next(0) is None


async def test_a_reader_that_can_take_a_total_at_once_is_given_it_where_it_is_offered() -> None:
    shelf = Shelf()
    taken: list[int] = []
    ready = True

    def take(version: int, document: bytes) -> bool:
        if ready:
            taken.append(version)
        return ready

    async with shelf.hub.listening(ONE) as listener:
        listener.at_once = take
        shelf.put(ONE, 1)  # while the total of now is in the slot: after it, in the slot
        assert taken == []
        assert (listener.take() or (None,))[0] == 1
        for version in (2, 2, 1, 3):
            shelf.put(ONE, version)
        assert taken == [2, 3]
        ready = False
        shelf.put(ONE, 5)
        ready = True
        for version in (4, 5, 6):
            shelf.put(ONE, version)
        assert taken == [2, 3], "who is behind takes from the slot, or an older one would come after a newer"
        assert (listener.take() or (None,))[0] == 6
        shelf.put(ONE, 7)
        listener.close("replaced")
        shelf.put(ONE, 8)
        assert taken == [2, 3, 7], "nothing comes after the close"


async def test_what_is_offered_while_the_total_is_read_comes_too() -> None:
    shelf = Shelf()
    shelf.put(ONE, 1)
    shelf.readable.clear()

    async def listen() -> list[int]:
        async with shelf.hub.listening(ONE) as listener:
            return [found[0] for found in [await listener.next(5), await listener.next(0)] if found]

    listening = asyncio.create_task(listen())
    await shelf.reading.wait()
    shelf.put(ONE, 2)  # stored and offered after the read has begun, which returns 1
    shelf.readable.set()
    assert await listening == [2]


async def test_the_source_hears_of_the_first_and_the_last_listener() -> None:
    shelf = Shelf()
    async with shelf.hub.listening(ONE):
        async with shelf.hub.listening(ONE), shelf.hub.listening(TWO):
            assert shelf.watched == [ONE, TWO]
        assert shelf.unwatched == [TWO]
    assert (shelf.watched, shelf.unwatched) == ([ONE, TWO], [TWO, ONE])


async def test_a_read_that_fails_leaves_nobody_behind() -> None:
    shelf = Shelf()
    shelf.failure = DatabaseUnavailable("away")
    with pytest.raises(DatabaseUnavailable):
        async with shelf.hub.listening(ONE):
            pass
    assert not shelf.hub.users
    assert shelf.unwatched == [ONE]


async def test_who_is_cancelled_while_the_total_is_read_leaves_nobody_behind() -> None:
    shelf = Shelf()
    shelf.readable.clear()

    async def listen() -> None:
        async with shelf.hub.listening(ONE):
            pass

    listening = asyncio.create_task(listen())
    await shelf.reading.wait()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert not shelf.hub.users


async def test_closing_tells_everyone_and_takes_nobody_new() -> None:
    shelf = Shelf()
    async with shelf.hub.listening(ONE) as one, shelf.hub.listening(TWO) as two:
        two.close("replaced")
        shelf.hub.close()
        await one.next(5)
        assert (one.closed, two.closed) == ("shutdown", "replaced")
    with pytest.raises(Closing):
        async with shelf.hub.listening(ONE):
            pass
