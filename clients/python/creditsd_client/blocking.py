"""The same client for code that blocks: Django, Flask, Celery, scripts.

An event loop in a thread of its own runs the asynchronous client, by way of anyio's blocking portal. So both have the
same rules, any number of threads may share one client, and closing it wakes all who wait.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Self, TypeVar

from anyio import to_thread
from anyio.from_thread import BlockingPortal

from creditsd_client.credits import Credits, TokenProvider
from creditsd_client.errors import ClosedError
from creditsd_client.stream import State, Stream
from creditsd_client.total import Total

T = TypeVar("T")


class BlockingCredits:
    """Reads totals from a creditsd, or from a `creditsd serve`, and waits for each answer.

    The arguments are those of Credits; `token` is a JWT, or a function that returns one and may block itself.
    Its thread starts at the first use, so a client that was made before a process forks works after it; one that was
    used before raises ClosedError in the child.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        token: str | Callable[[], str] | None = None,
        connect_seconds: float = 10.0,
        silence_seconds: float = 60.0,
        retry_seconds: float = 1.0,
    ) -> None:
        self._credits = Credits(
            url,
            api_key=api_key,
            token=_in_a_thread(token) if callable(token) else token,
            connect_seconds=connect_seconds,
            silence_seconds=silence_seconds,
            retry_seconds=retry_seconds,
        )
        self._loop = _Loop(self._credits.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, user_id: str | None = None, *, min_version: int | None = None) -> Total:
        """Read one total, once, as Credits.read does. Raises UnavailableError or RefusedError."""
        return self._loop.run(lambda: self._credits.read(user_id, min_version=min_version))

    def read_many(self, user_ids: Iterable[str], *, at_once: int = 16) -> dict[str, Total]:
        """Read the totals of several users, `at_once` at a time, as Credits.read_many does."""
        wanted = list(user_ids)
        return self._loop.run(lambda: self._credits.read_many(wanted, at_once=at_once))

    def stream(self, user_id: str | None = None) -> BlockingStream:
        """Follow one user. Use it in a `with`, or close it, when you stop before its end."""

        async def begin() -> Stream:
            return self._credits.stream(user_id)

        return BlockingStream(self._loop.run(begin), self._loop)

    def close(self) -> None:
        """End every stream, the connections and the thread. For good; whoever waits in another thread is told."""
        self._loop.close()


class BlockingStream:
    """An iterator over one user's totals, each newer than the one before it; see Stream."""

    def __init__(self, stream: Stream, loop: _Loop) -> None:
        self._stream = stream
        self._loop = loop

    @property
    def state(self) -> State:
        """`connecting`, `live`, `waiting` or `closed`."""
        return self._stream.state

    @property
    def problem(self) -> str | None:
        """Why it waits."""
        return self._stream.problem

    @property
    def total(self) -> Total | None:
        """The newest that came."""
        return self._stream.total

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Total:
        total = self.wait()
        if total is None:
            raise StopIteration
        return total

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, seconds: float | None = None) -> Total | None:
        """Return the next total; None where none came within so many seconds, or where the stream is closed."""

        async def next_total() -> Total | None:
            try:
                async with asyncio.timeout(seconds):
                    return await anext(self._stream)
            except (TimeoutError, StopAsyncIteration):
                return None

        try:
            return self._loop.run(next_total)
        except ClosedError:
            return None

    def close(self) -> None:
        """End it at once; a thread that waits for the next total is told that there is none."""

        async def end() -> None:
            self._stream.close()

        if self.state != "closed":
            self._loop.run(end)


class _Loop:
    """An event loop in a thread of its own, which starts at the first question and ends with the process."""

    def __init__(self, farewell: Callable[[], Awaitable[None]]) -> None:
        self._farewell = farewell
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._thread: threading.Thread | None = None
        self._process = 0
        self._closed = False

    def run(self, question: Callable[[], Awaitable[T]]) -> T:
        """Wait for the answer. Whoever is interrupted by a signal meanwhile leaves nothing running."""
        portal: BlockingPortal | None = None
        answering: list[asyncio.Task[Any] | None] = []
        ended = threading.Event()

        async def answer() -> T:
            answering.append(asyncio.current_task())
            try:
                return await question()
            finally:
                ended.set()

        async def give_up() -> None:
            for task in answering:
                assert task is not None
                task.cancel()

        try:
            with self._lock:
                portal = self._open()
                asked = portal.start_task_soon(answer)
            return asked.result()
        except CancelledError:
            raise ClosedError("the client was closed meanwhile") from None
        except BaseException:
            if portal is not None and not ended.is_set():  # not the answer raised, but a signal's handler
                portal.call(give_up)  # begins after `answer` has, if that was ever sent
                if answering:
                    ended.wait()
            raise

    def close(self) -> None:
        """Say farewell, then end what still runs, and the thread."""
        with self._lock:
            self._closed = True
            portal, thread, self._portal = self._portal, self._thread, None
        atexit.unregister(self.close)
        if portal is not None and thread is not None and self._process == os.getpid():
            portal.call(self._farewell)
            portal.call(portal.stop, True)
            thread.join()

    def _open(self) -> BlockingPortal:
        if self._closed:
            raise ClosedError("this client is closed: make a new one")
        if self._portal is None:
            opened = Future[BlockingPortal]()
            self._thread = threading.Thread(target=asyncio.run, args=(_serve(opened),), name=__name__, daemon=True)
            self._thread.start()
            self._portal = opened.result()
            self._process = os.getpid()
            atexit.register(self.close)  # after that the thread of an unclosed client is stopped anywhere
        if self._process != os.getpid():
            raise ClosedError("this client was used before the process forked: make a new one in the child")
        return self._portal


async def _serve(opened: Future[BlockingPortal]) -> None:
    async with BlockingPortal() as portal:
        opened.set_result(portal)
        await portal.sleep_until_stopped()


def _in_a_thread(token: Callable[[], str]) -> TokenProvider:
    """Let it block without keeping the loop, and so all others, from going on."""

    async def ask() -> str:
        return await to_thread.run_sync(token, abandon_on_cancel=True)

    return ask
