"""One cursor loop over `balances`, the same for every sink: what is new goes there, in the order of versions."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from creditsd import queries
from creditsd.database import Pool, batch, borrowed, row
from creditsd.deliveries import Deliveries
from creditsd.errors import DatabaseUnavailable, SchemaError, SinkUnavailable
from creditsd.model import Total
from creditsd.sinks import Sink

log = structlog.get_logger()

SAVE_SECONDS = 1.0
FRESH_TOTALS = 4000  # handed over at most; who is further behind reads the table, where each user stands once
REFUSED_TOGETHER = 20  # where so many are refused and none passes, it is the sink that is ill, not the deliveries
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(slots=True)
class Backoff:
    """Pauses that double, each between half and all of its length, so that many do not return at once."""

    tries: int = 0

    def next(self, at_least: float | None = None) -> float:
        """Return the seconds until the next try."""
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**self.tries)
        self.tries = min(self.tries + 1, 30)
        return max(at_least or 0.0, longest * random.uniform(0.5, 1))


class Publisher:
    """Keeps one sink at the truth. Its cursor is the version up to which everything has arrived there."""

    def __init__(self, name: str, sink: Sink, pool: Pool) -> None:
        self.name = name
        self._sink = sink
        self._pool = pool
        self._cursor = 0
        self._taken = 0
        self._head = 0
        self._fresh: deque[Sequence[Total]] = deque()
        self._fresh_size = 0
        self._stir = asyncio.Event()
        self._ending = False
        self._led = False
        self._registered = False
        self._opened = False
        self._deliveries: Deliveries | None = None
        self._user_id_type = ""
        self._backoff = Backoff()
        self._error: str | None = None
        self._error_saved: str | None = None
        self._delivered = 0
        self._saved = 0
        self._saved_at = 0.0

    @property
    def behind(self) -> bool:
        """Whether something that is stored has not arrived."""
        return self._cursor < self._head

    @property
    def error(self) -> str | None:
        """Why the sink stands still, or None."""
        return self._error

    def lead(self, newest: int, user_id_type: str) -> None:
        """Begin, or go on after another daemon may have led: the database knows how far the sink is."""
        self._head = max(self._head, newest)
        self._user_id_type = user_id_type
        self._led = True
        self._registered = False
        self._stir.set()

    def offer(self, totals: Sequence[Total]) -> None:
        """Hand over totals just stored, in order. Never waits, never grows: who is behind reads the table."""
        if not totals:
            return
        follows = self._taken >= self._head or bool(self._fresh)  # nothing lies between these and what is under way
        if follows and (not self._fresh or self._fresh_size + len(totals) <= FRESH_TOTALS):
            self._fresh.append(totals)
            self._fresh_size += len(totals)
        else:
            self._forget_fresh()
        self._head = totals[-1].version
        self._stir.set()

    async def run(self) -> None:
        """Publish until told to end, and then until nothing waits. A failure of sink or database only pauses."""
        while not (self._ending and not self.behind):
            try:
                await (self._step() if self._led else self._pause(None))
            except (SinkUnavailable, DatabaseUnavailable, SchemaError) as error:
                self._forget_fresh()
                self._taken = self._cursor
                seconds = self._backoff.next(getattr(error, "retry_after_seconds", None))
                self._note_error(str(error), seconds)
                await self._pause(seconds, deaf=True)

    async def end(self) -> None:
        """Let `run` return once nothing waits."""
        self._ending = True
        self._stir.set()

    async def close(self) -> None:
        """Save the cursor and let go of the sink."""
        try:
            await self._save()
        except (DatabaseUnavailable, SchemaError) as error:
            log.warning("publisher.left_unsaved", sink=self.name, reason=str(error))
        finally:
            await self._sink.close()

    async def _step(self) -> None:
        if not self._registered:
            await self._register()
        if not self._opened:
            await self._sink.open()
            self._opened = True
        deliveries = self._deliveries
        assert deliveries is not None
        if deliveries.due_seconds == 0.0:
            await self._deliver(await deliveries.due(self._sink.max_batch), deliveries, again=True)
        totals = await self._next()
        if totals:
            await self._deliver(totals, deliveries)
        elif not self._ending:
            await self._idle(deliveries)
        if self._dirty and time.monotonic() - self._saved_at >= SAVE_SECONDS:
            await self._save()

    async def _register(self) -> None:
        async with borrowed(self._pool) as connection:
            found = await row(connection, queries.sql("queries/sink_registered"), {"name": self.name})
        assert found is not None
        self._cursor = self._taken = self._saved = max(self._cursor, found[0])
        self._deliveries = Deliveries(self.name, self._pool, user_id_type=self._user_id_type)
        await self._deliveries.load()
        self._registered = True

    async def _next(self) -> Sequence[Total]:
        """Return what to deliver now: what was handed over, or a page of the table."""
        if self._fresh:
            totals = self._fresh.popleft()
            self._fresh_size -= len(totals)
            self._taken = totals[-1].version
            return totals
        if self._cursor >= self._head:
            return ()
        async with borrowed(self._pool) as connection:
            found = await batch(
                connection,
                queries.sql("queries/balances_after"),
                {"version": self._cursor, "limit": self._sink.max_batch},
            )
        self._taken = found.totals[-1].version if found.totals else self._head
        if not found.totals:
            self._cursor = self._head
        return found.totals

    async def _deliver(self, totals: Sequence[Total], deliveries: Deliveries, *, again: bool = False) -> None:
        """Hand totals to the sink and settle what became of them; `again`, they are not next after the cursor."""
        size = self._sink.max_batch
        for start in range(0, len(totals), size):
            part = totals[start : start + size]
            refused = await self._sink.deliver(part)
            log.debug("publisher.delivered", sink=self.name, totals=len(part), refused=len(refused))
            if not again and len(refused) == len(part) >= REFUSED_TOGETHER:
                raise SinkUnavailable(f"sink {self.name}: refuses every delivery, e.g. {refused[0].reason}")
            self._cursor = self._cursor if again else max(self._cursor, part[-1].version)
            self._delivered += len(part) - len(refused)
            if refused or deliveries.any:
                await deliveries.settle(part, refused, cursor=self._cursor, delivered=self._delivered)
                self._saved, self._delivered = self._cursor, 0
            self._note_recovery()

    @property
    def _dirty(self) -> bool:
        return self._cursor != self._saved or self._error != self._error_saved

    async def _idle(self, deliveries: Deliveries) -> None:
        """Wait for a stir; meanwhile save what should be saved, and return to the refused in time."""
        waits = []
        if self._dirty:
            waits.append(max(0.0, self._saved_at + SAVE_SECONDS - time.monotonic()))
        if deliveries.due_seconds is not None:
            waits.append(deliveries.due_seconds)
        await self._pause(min(waits, default=None))

    async def _pause(self, seconds: float | None, *, deaf: bool = False) -> None:
        """Wait for a stir, at most so long; deaf, for the whole time, unless we are ending."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    await self._stir.wait()
                    self._stir.clear()
                    if not deaf or self._ending:
                        return

    async def _save(self) -> None:
        cursor = self._cursor
        if not self._registered or not self._dirty:
            return
        async with borrowed(self._pool) as connection:
            await row(
                connection,
                queries.sql("queries/sink_saved"),
                {
                    "name": self.name,
                    "cursor": cursor,
                    "delivered": self._delivered,
                    "last_error": self._error,
                },
            )
        self._saved, self._saved_at, self._error_saved, self._delivered = (
            cursor,
            time.monotonic(),
            self._error,
            0,
        )

    def _forget_fresh(self) -> None:
        self._fresh.clear()
        self._fresh_size = 0

    def _note_error(self, error: str, seconds: float) -> None:
        say = log.warning if self._error is None else log.info
        self._error = error
        say("publisher.paused", sink=self.name, reason=error, next_try_seconds=round(seconds, 2))

    def _note_recovery(self) -> None:
        self._backoff = Backoff()
        if self._error is not None:
            log.info("publisher.recovered", sink=self.name)
        self._error = None
