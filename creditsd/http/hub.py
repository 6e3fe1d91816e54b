"""Fans totals out to listeners; each holds only the newest one it has not sent, so a slow reader never has a queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Literal, Protocol

from creditsd.domain.errors import CreditsdError, RowsError
from creditsd.domain.total import Total

Current = tuple[int, bytes]
"""A total as it goes over the wire: its version, and its JSON, which must have no line break in it."""

CloseReason = Literal["shutdown", "token_expired", "replaced", "lagging"]


class TotalSource(Protocol):
    """Where totals come from: a database, or a store that somebody else fills.

    All ids but the one given to `canonical` are canonical. What the source learns it hands to `Hub.offer`.
    """

    def canonical(self, user_id: str) -> str:
        """Return an id in the one form under which totals are offered. Raises InputError for what cannot be an id."""

    async def read(self, user_id: str) -> Current | None:
        """Read a user's newest total; None for somebody nobody has heard of.

        Raises DatabaseUnavailable or SinkUnavailable when it cannot be told now.
        """

    async def read_many(self, user_ids: Sequence[str]) -> Sequence[Current | RowsError | None]:
        """Read many users' newest totals in their order, as `read` does each; or why one has none."""

    async def watch(self, user_id: str) -> None:
        """Return once every total that is stored from now on will be offered; for the first listener here.

        Listeners that come together may call it twice for one user. Raises what `read` raises.
        """

    def unwatch(self, user_id: str) -> None:
        """Stop offering a user's totals: the last listener has left, or `watch` has failed. Waits for nothing."""


class Closing(CreditsdError):  # noqa: N818  reads as the state it reports
    """The process is shutting down and takes no more listeners; another one will."""

    exit_code = 69  # EX_UNAVAILABLE


class Listener:
    """One reader of one user's total: a slot that holds the newest total it has not taken yet.

    With `at_once` set, a total is handed to that instead while the slot is empty, unless it answers that it cannot take
    it now: it must neither wait nor raise.
    """

    __slots__ = ("_newest", "_seen", "_wakeup", "at_once", "closed", "user_id", "when_closed")

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.closed: CloseReason | Literal["gone"] | None = None
        self.when_closed: Callable[[], None] | None = None
        self.at_once: Callable[[int, bytes], bool] | None = None
        self._seen = -1
        self._newest: Current | None = None
        self._wakeup = asyncio.Event()

    def offer(self, version: int, document: bytes) -> None:
        """Hand a total on at once, or put it in the slot, in place of an older one; ignore one that is not newer."""
        if version <= self._seen:
            return
        if self._newest is None:
            if self.at_once is not None and self.closed is None and self.at_once(version, document):
                self._seen = version
                return
        elif version <= self._newest[0]:
            return
        self._newest = (version, document)
        self._wakeup.set()

    def skip(self, version: int) -> None:
        """Treat totals up to a version as already read."""
        self._seen = max(self._seen, version)
        if self._newest is not None and self._newest[0] <= self._seen:
            self._newest = None

    def close(self, reason: CloseReason | Literal["gone"]) -> None:
        """Close the listener; the first reason given stays."""
        self.closed = self.closed or reason
        self._wakeup.set()
        if self.when_closed is not None:
            self.when_closed()

    async def next(self, seconds: float | None = None) -> Current | None:
        """Wait for the newest total; None after so many seconds of silence, or when the listener is closed."""
        if self._newest is None and self.closed is None:
            self._wakeup.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wakeup.wait()
        return self.take()

    def take(self) -> Current | None:
        """Take what is in the slot, without waiting."""
        newest, self._newest = self._newest, None
        if newest is not None:
            self._seen = newest[0]
        return newest


class Hub:
    """Passes offered totals to those who listen to their user. All ids are canonical."""

    def __init__(self, source: TotalSource, low_credits: Decimal | None = None) -> None:
        self._source = source
        self._low_credits = low_credits  # said of somebody nobody has heard of
        self._listeners: dict[str, set[Listener]] = {}
        self._watched: set[str] = set()
        self._closed = False

    @property
    def users(self) -> Collection[str]:
        """The users somebody listens to; a source that was away must read them again."""
        return self._listeners.keys()

    def canonical(self, user_id: str) -> str:
        """Return an id in the form the other methods take. Raises InputError for an impossible one."""
        return self._source.canonical(user_id)

    def listens(self, user_id: str) -> bool:
        """Whether anybody listens to this user."""
        return user_id in self._listeners

    def offer(self, user_id: str, version: int, document: bytes) -> None:
        """Hand a total, as JSON, to everyone who listens to its user. Waits for nobody."""
        for listener in self._listeners.get(user_id, ()):
            listener.offer(version, document)

    async def read(self, user_id: str) -> Current:
        """Read a user's total; somebody nobody has heard of has none, which is an answer."""
        return self._known(user_id, await self._source.read(user_id))

    async def read_many(self, user_ids: Sequence[str]) -> Sequence[Current | RowsError]:
        """Read the totals of many users, in their order, as `read` does each; or why one has none."""
        found = await self._source.read_many(user_ids)
        return [
            each if isinstance(each, RowsError) else self._known(user_id, each)
            for user_id, each in zip(user_ids, found, strict=True)
        ]

    @asynccontextmanager
    async def listening(self, user_id: str) -> AsyncIterator[Listener]:
        """Listen for as long as the block lasts: the total of now comes first, and nothing is missed after it.

        Raises Closing, or what the source raises.
        """
        if self._closed:
            raise Closing("this process is about to end: connect again")
        listener = Listener(user_id)
        self._listeners.setdefault(user_id, set()).add(listener)
        try:
            if user_id not in self._watched:
                await self._source.watch(user_id)
                self._watched.add(user_id)
            listener.offer(*await self.read(user_id))  # after `watch`: what changes between the two is offered
            yield listener
        finally:
            self._forget(listener)

    def close(self) -> None:
        """Close every listener with `shutdown`, and take no new ones."""
        self._closed = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.close("shutdown")

    def _forget(self, listener: Listener) -> None:
        listeners = self._listeners[listener.user_id]
        listeners.discard(listener)
        if not listeners:
            del self._listeners[listener.user_id]
            self._watched.discard(listener.user_id)
            self._source.unwatch(listener.user_id)

    def _known(self, user_id: str, found: Current | None) -> Current:
        return found if found is not None else (0, Total.nothing(user_id, self._low_credits).json())
