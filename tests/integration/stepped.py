"""Takes a publisher a step at a time: a receiver that answers when told, connections really cut, a clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from creditsd.delivery.timings import Timings
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.postgres import connections
from creditsd.sinks import Rejection

HOUR = 3600.0
TIMINGS = Timings(
    save_seconds=HOUR,
    look_seconds=HOUR,
    first_pause_seconds=HOUR,
    longest_pause_seconds=HOUR,
    retry_delays_seconds=(HOUR,) * 1000,
)
"""Nothing happens by itself: time passes when the test says so."""

QUIET_TURNS = 30  # of the event loop; a chain of callbacks between two waits is far shorter


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be set ahead, so that whatever waits for an hour goes on at once."""

    ahead_seconds = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_seconds


class SteppedSink:
    """A sink whose deliveries lie at hand until the test answers them."""

    disable_after_seconds = 1e9

    def __init__(self, max_batch: int) -> None:
        self.max_batch = max_batch
        self.reachable = True
        self.touched = 0
        self.failed_to_open = 0
        self.begun: list[Sequence[Total]] = []
        self.begun_early = 0
        self.at_hand: Sequence[Total] = ()
        self._answer: asyncio.Future[Sequence[Rejection]] | None = None
        self.ahead: Sequence[Total] | None = None  # sent, and nobody waits for the answer yet

    async def open(self) -> None:
        self.touched += 1
        if not self.reachable:
            self.failed_to_open += 1
            raise SinkUnavailable("sink memory: cannot be reached")

    def begin(self, totals: Sequence[Total]) -> bool:
        assert self.ahead is None
        assert not self.at_hand, "sends more while an answer is awaited"
        self.touched += 1
        self.begun_early += 1
        self.begun.append(totals)
        self.ahead = list(totals)
        return True

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        self.touched += 1
        ahead, self.ahead = self.ahead, None
        if ahead != list(totals):
            self.begun.append(totals)
        self.at_hand, self._answer = totals, asyncio.get_running_loop().create_future()
        try:
            return await self._answer
        finally:
            self.at_hand, self._answer = (), None

    async def held(self, user_id: str) -> int | None:
        raise NotImplementedError

    async def close(self) -> None:
        self.ahead = None

    def answer(self, refused: Sequence[Rejection] = (), failure: Exception | None = None) -> None:
        """End the delivery at hand."""
        assert self._answer is not None
        if failure is not None:
            self._answer.set_exception(failure)
        else:
            self._answer.set_result(refused)


class CountedConnection(psycopg.AsyncConnection[TupleRow]):
    """A connection that is really cut before the statement the test has chosen."""

    pool: CuttablePool | None = None

    async def execute(self, *args: Any, **options: Any) -> psycopg.AsyncCursor[TupleRow]:
        if self.pool is not None and self.pool.due_to_be_cut():
            cut(self)
        return await super().execute(*args, **options)


class CuttablePool:
    """Stands for the publisher's pool with one real connection, for speed; what is away, or cut, is so for real."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: CountedConnection | None = None
        self._lock = asyncio.Lock()
        self.away = False
        self.cut_before: int | None = None
        self.lose_answer = False
        self.borrowed = 0
        self.in_flight = 0

    @property
    def faulty(self) -> bool:
        """Whether something is to befall it."""
        return self.away or self.lose_answer or self.cut_before is not None

    def due_to_be_cut(self) -> bool:
        """Count a statement, and say whether the connection is to be cut before it."""
        if self.cut_before is None:
            return self.away
        self.cut_before -= 1
        if self.cut_before >= 0:
            return self.away
        self.cut_before = None
        return True

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[CountedConnection]:
        """Lend the connection; `lose_answer`, all that is done with it is done, but who did it is not told."""
        self.borrowed += 1
        self.in_flight += 1
        try:
            async with self._lock:
                connection = await self._connected()
                yield connection
                if self.lose_answer:
                    self.lose_answer = False
                    cut(connection)
                    await connection.close()
                    raise psycopg.OperationalError("the connection was lost")
        finally:
            self.in_flight -= 1

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _connected(self) -> CountedConnection:
        if self._connection is None or self._connection.broken or self._connection.closed:
            if self._connection is not None:
                await self._connection.close()
            made = await CountedConnection.connect(self._dsn, autocommit=True, prepare_threshold=None)
            await connections._configure(made, schema="creditsd")
            made.pool, self._connection = self, made
        return self._connection


def cut(connection: psycopg.AsyncConnection[Any]) -> None:
    """Cut a connection to the server, as a network does."""
    with socket.socket(fileno=os.dup(connection.fileno())) as line, contextlib.suppress(OSError):  # cut already
        line.shutdown(socket.SHUT_RDWR)


async def quiet(pool: CuttablePool) -> None:
    """Wait until nothing goes on but waiting for an answer, for news or for time to pass."""
    turns = 0
    while turns < QUIET_TURNS:
        turns = 0 if pool.in_flight else turns + 1
        await asyncio.sleep(0)


async def ended(task: asyncio.Task[None]) -> None:
    """Wait until a task is over, whatever became of it."""
    await asyncio.wait([task])
