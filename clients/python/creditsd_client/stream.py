"""Follows one user: the newest total at once, then every newer one, over as many connections as that takes."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Literal, Self

import aiohttp

from creditsd_client.errors import ClientError, ClosedError, ReplacedError, UnauthorizedError, UnavailableError
from creditsd_client.events import Event, Events
from creditsd_client.total import Total, decode

State = Literal["connecting", "live", "waiting", "closed"]
Open = Callable[[Mapping[str, str]], Awaitable[aiohttp.ClientResponse]]

LONGEST_PAUSE_SECONDS = 30.0
FAILURES = (aiohttp.ClientError, TimeoutError, OSError)


class Stream:
    """An asynchronous iterator over one user's totals, each newer than the one before it.

    Whatever passes by itself is waited for: `state` says `connecting`, `live` or `waiting`, and `problem` why it waits.
    A refusal (401, 403, 404 …) ends it with its error. Nothing runs while nobody asks for the next total.
    """

    def __init__(self, open_: Open, *, first_pause_seconds: float, renewable: bool) -> None:
        self.state: State = "connecting"
        self.problem: str | None = None
        self.total: Total | None = None
        self._open = open_
        self._renewable = renewable
        self._retry_seconds = first_pause_seconds
        self._response: aiohttp.ClientResponse | None = None
        self._events = Events()
        self._come: deque[Event] = deque()
        self._failures = 0
        self._opened_at = 0.0
        self._pause_seconds = 0.0
        self._refreshed = False
        self._closed = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Total:
        while not self._closed.is_set():
            try:
                if self._response is None:
                    await self._connect()
                elif (total := self._newer(await self._event())) is not None:
                    return total
            except UnavailableError as error:
                self._lost(str(error), error.retry_after_seconds)
            except FAILURES as error:
                self._lost(said(error))
            except ClosedError:
                self.close()  # with the client, while this stream asked for a connection
            except ClientError:
                self.close()
                raise
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it at once; whoever waits for the next total is told that there is none."""
        self.state = "closed"
        self._closed.set()
        self._drop()

    async def _connect(self) -> None:
        if self._pause_seconds:
            try:
                async with asyncio.timeout(self._pause_seconds):
                    await self._closed.wait()
                return
            except TimeoutError:
                self._pause_seconds = 0.0
        self.state = "connecting"
        known = {} if self.total is None else {"Last-Event-ID": str(self.total.version)}
        try:
            response = await self._open(known)
        except UnauthorizedError:
            if self._refreshed or not self._renewable:
                raise
            self._refreshed = True  # the token may have run out on its way; a second one that is refused is wrong
            return
        if self._closed.is_set():
            response.close()
            return
        if response.content_type != "text/event-stream":
            response.close()
            raise UnavailableError(f"{response.url.origin()} answers with no stream: is this the address of creditsd?")
        self._response, self._events = response, Events()
        self._opened_at = asyncio.get_running_loop().time()
        self.state, self.problem, self._refreshed = "live", None, False

    async def _event(self) -> Event:
        while not self._come:
            assert self._response is not None
            chunk = await self._response.content.readany()
            if not chunk:
                raise UnavailableError("the server ended the stream")
            self._come.extend(self._events.read(chunk))
            self._retry_seconds = self._events.retry_seconds or self._retry_seconds
        return self._come.popleft()

    def _newer(self, event: Event) -> Total | None:
        if event.name == "close":
            farewell = decode(event.data)
            self._told_to_go(str(farewell.get("reason") if isinstance(farewell, dict) else farewell))
        if event.name != "message":
            return None
        total = Total.parse(event.data)
        self._failures = 0
        if self.total is not None and total.version <= self.total.version:
            return None
        self.total = total
        return total

    def _told_to_go(self, reason: str) -> None:
        if reason == "replaced":
            raise ReplacedError("the server closed this stream for a newer one of the same user: keep fewer open")
        raise UnavailableError(f"the server closed the stream: {reason}")

    def _lost(self, problem: str, at_least_seconds: float | None = None) -> None:
        """Plan the next try: after the server's `retry`, doubled with each failure, and never all clients at once."""
        if self._response is not None and asyncio.get_running_loop().time() - self._opened_at > LONGEST_PAUSE_SECONDS:
            self._failures = 0
        longest = min(LONGEST_PAUSE_SECONDS, self._retry_seconds * 2.0**self._failures)
        self._failures = min(self._failures + 1, 30)
        self._pause_seconds = max(longest * random.uniform(0.5, 1), at_least_seconds or 0.0)
        if not self._closed.is_set():
            self.state, self.problem = "waiting", problem
        self._drop()

    def _drop(self) -> None:
        response, self._response = self._response, None
        self._come.clear()
        if response is not None:
            response.close()


def said(error: BaseException) -> str:
    """Say it in one line; a time-out has no words of its own."""
    return str(error) or ("no sign of life in time" if isinstance(error, TimeoutError) else type(error).__name__)
