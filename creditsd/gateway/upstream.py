"""Follows a broker for the users somebody listens to, and feeds the hub."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import structlog

from creditsd.domain.backoff import Backoff
from creditsd.domain.errors import SinkUnavailable, ungrouped
from creditsd.domain.user_id import canonical
from creditsd.gateway.sources import BrokerSource, version_of
from creditsd.metrics.counters import FeedMetrics

T = TypeVar("T")

log = structlog.get_logger()

Offer = Callable[[str, int, bytes], None]
Current = tuple[int, bytes]

NOT_YET = "serve.feed: not connected yet"


@dataclass(frozen=True, slots=True)
class Timings:
    """The pauses between reconnects, which stay short: people look at what waits here.

    A connection that lasted longer than `steady_seconds` was a good one: the pauses begin anew.
    """

    first_pause_seconds: float = 0.2
    longest_pause_seconds: float = 3.2
    steady_seconds: float = 5.0


class Upstream:
    """The hub's source of totals, and the loop that feeds it: connect, subscribe, read, receive; after a loss again.

    A user is subscribed with the first listener and left with the last. Whoever is watched is read once the
    subscription holds, and again every `sweep_seconds`: feeds tell a total at most once.
    """

    def __init__(
        self,
        source: BrokerSource,
        metrics: FeedMetrics,
        *,
        user_id_type: str,
        sweep_seconds: float,
        timings: Timings | None = None,
    ) -> None:
        self.error: str | None = NOT_YET
        self._source = source
        self._metrics = metrics
        self._timings = timings or Timings()
        metrics.connected.set_function(lambda: self.error is None)
        metrics.users.set_function(lambda: len(self._subscribed))
        self._user_id_type = user_id_type
        self._sweep_seconds = sweep_seconds
        self._watched: dict[str, asyncio.Future[str | None]] = {}  # done with None: subscribed; with words: not
        self._subscribed: set[str] = set()
        self._changed: set[str] = set()
        self._readers: dict[str, asyncio.Future[Current | str | None]] = {}
        self._interest, self._question = asyncio.Event(), asyncio.Event()

    def canonical(self, user_id: str) -> str:
        """Return the id as it is published. Raises InputError."""
        return canonical(self._user_id_type, user_id)

    async def read(self, user_id: str) -> Current | None:
        """Read what is stored, together with others who ask at this moment."""
        (found,) = await self.read_many([user_id])
        return found

    async def read_many(self, user_ids: Sequence[str]) -> Sequence[Current | None]:
        """Read what is stored of many, in their order, together with others who ask at this moment."""
        if self.error is not None:
            raise SinkUnavailable(self.error)
        asked = [self._ask(user_id) for user_id in user_ids]
        found = [await asyncio.shield(each) for each in asked]
        for each in found:
            if isinstance(each, str):
                raise SinkUnavailable(each)
        return [each for each in found if not isinstance(each, str)]

    async def watch(self, user_id: str) -> None:
        """Subscribe, together with others who come at this moment."""
        if self.error is not None:
            raise SinkUnavailable(self.error)
        subscribed = self._watched.get(user_id)
        if subscribed is None or (subscribed.done() and subscribed.result() is not None):
            subscribed = self._watched[user_id] = asyncio.get_running_loop().create_future()
            self._changed.add(user_id)
            self._interest.set()
        problem = await asyncio.shield(subscribed)
        if problem is not None:
            raise SinkUnavailable(problem)

    def unwatch(self, user_id: str) -> None:
        """Unsubscribe, unless somebody comes back before that is done."""
        if self._watched.pop(user_id, None) is not None:
            self._changed.add(user_id)
            self._interest.set()

    async def run(self, offer: Offer) -> NoReturn:
        """Follow the feed until cancelled; a loss is logged, and stands in `error` while it lasts."""
        timings, problem = self._timings, ""
        backoff = Backoff(timings.first_pause_seconds, timings.longest_pause_seconds)
        while True:
            begun = time.monotonic()
            try:
                with ungrouped():
                    await self._follow(offer)
            except SinkUnavailable as error:
                problem = str(error)
            self._lose(problem)
            self._metrics.losses.inc()
            _give_way()
            if time.monotonic() - begun > timings.steady_seconds:
                backoff.begin_anew()
            seconds = backoff.next()
            log.warning("feed.lost", reason=problem, next_try_seconds=round(seconds, 2))
            await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close the feed."""
        self._lose("this process is about to end")
        await self._source.close()

    def _ask(self, user_id: str) -> asyncio.Future[Current | str | None]:
        asked = self._readers.get(user_id)
        if asked is None:
            asked = self._readers[user_id] = asyncio.get_running_loop().create_future()
            self._question.set()
        return asked

    async def _follow(self, offer: Offer) -> None:
        """Connect, and follow until the feed is lost."""
        await self._source.open()
        async with asyncio.TaskGroup() as tasks:  # ends with this call
            tasks.create_task(self._listen(offer))
            await self._resume(offer)
            self.error = None
            log.info("feed.connected", users=len(self._watched))
            tasks.create_task(self._keep_interest())
            tasks.create_task(self._answer_readers())
            await self._sweep(offer)

    async def _listen(self, offer: Offer) -> NoReturn:
        while True:
            _give_way()
            for user_id, document in await self._source.heard():
                self._tell(offer, user_id, document)

    async def _resume(self, offer: Offer) -> None:
        """Subscribe everyone who is watched, and read what was published meanwhile."""
        self._changed.clear()
        for users in self._batches(list(self._watched)):
            await self._source.subscribe(users)
            self._subscribed.update(users)
            await self._read(offer, users)
        self._changed.update(self._subscribed ^ self._watched.keys())  # who came and went while this lasted
        self._interest.set()
        for user_id in self._subscribed & self._watched.keys():
            _settle(self._watched[user_id], None)

    async def _keep_interest(self) -> NoReturn:
        while True:
            _give_way()
            await self._interest.wait()
            self._interest.clear()
            changed, self._changed = self._changed, set()
            for users in self._batches([each for each in changed & self._subscribed if each not in self._watched]):
                self._subscribed.difference_update(users)
                await self._source.unsubscribe(users)
            new = [each for each in changed if each in self._watched and each not in self._subscribed]
            for users in self._batches(new):
                await self._source.subscribe(users)
                self._subscribed.update(users)
            for user_id in changed & self._subscribed & self._watched.keys():
                _settle(self._watched[user_id], None)

    async def _answer_readers(self) -> NoReturn:
        while True:
            _give_way()
            await self._question.wait()
            self._question.clear()
            readers, self._readers = self._readers, {}
            try:
                for users in self._batches(list(readers)):
                    for user_id, document in zip(users, await self._source.newest(users), strict=True):
                        version = None if document is None else version_of(user_id, document)
                        _settle(readers[user_id], None if version is None or document is None else (version, document))
            finally:
                for reader in readers.values():
                    _settle(reader, "serve.feed: the connection was lost")

    async def _sweep(self, offer: Offer) -> NoReturn:
        """Read everyone who is watched again and again, evenly over the time."""
        while True:
            batches = self._batches(list(self._watched))
            for users in batches or [()]:
                await asyncio.sleep(self._sweep_seconds / max(1, len(batches)))
                if users:
                    await self._read(offer, users)

    async def _read(self, offer: Offer, users: Sequence[str]) -> None:
        found = await self._source.newest(users)
        _give_way()
        for user_id, document in zip(users, found, strict=True):
            if document is not None:
                self._tell(offer, user_id, document)

    def _tell(self, offer: Offer, user_id: str, document: bytes) -> None:
        version = version_of(user_id, document)
        if version is not None:
            self._metrics.totals.inc()
            offer(user_id, version, document)

    def _batches(self, users: Sequence[str]) -> Sequence[Sequence[str]]:
        size = self._source.max_batch
        return [users[start : start + size] for start in range(0, len(users), size)]

    def _lose(self, problem: str) -> None:
        """Fail those who wait; those who listen already go on listening."""
        self.error = problem
        self._subscribed.clear()
        for watching in self._watched.values():
            _settle(watching, problem)
        for reader in self._readers.values():
            _settle(reader, problem)
        self._readers.clear()


def _give_way() -> None:
    """Raise a cancellation that an error hid, or that `wait_for` of Python 3.11 lost."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _settle(waiting: asyncio.Future[T], outcome: T) -> None:
    if not waiting.done():
        waiting.set_result(outcome)
