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
from creditsd.errors import DatabaseUnavailable, SchemaError, SinkUnavailable
from creditsd.model import Total
from creditsd.sinks import Rejection, Sink

log = structlog.get_logger()

SAVE_SECONDS = 1.0
FRESH_TOTALS = 4000  # handed over at most; who is further behind reads the table, where each user stands once
REFUSED_USERS = 1000  # more than this, and it is the sink that is ill, not the deliveries
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
        self._refused: dict[str, Total] = {}
        self._retry_refused_at = 0.0
        self._backoff = Backoff()
        self._error: str | None = None
        self._error_saved: str | None = None
        self._delivered = 0
        self._saved = 0
        self._saved_at = 0.0

    @property
    def behind(self) -> bool:
        """Whether something that is stored has not arrived."""
        return self._cursor < self._head or bool(self._refused)

    @property
    def error(self) -> str | None:
        """Why the sink stands still, or None."""
        return self._error

    def lead(self, newest: int) -> None:
        """Begin, or go on after another daemon may have led: the database knows how far the sink is."""
        self._head = max(self._head, newest)
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
        """Publish until told to end, and then what is left; a failure of sink or database only pauses until then.

        What was refused, or fails once we end, is left to the next start: the saved cursor stands before it.
        """
        while not (self._ending and self._cursor >= self._head):
            try:
                await (self._step() if self._led else self._pause(None))
            except (SinkUnavailable, DatabaseUnavailable, SchemaError) as error:
                self._forget_fresh()
                self._taken = self._cursor
                seconds = self._backoff.next(getattr(error, "retry_after_seconds", None))
                self._note_error(str(error), seconds)
                if self._ending:
                    return
                if not isinstance(error, DatabaseUnavailable):
                    await self._save_quietly()  # `status` tells why a sink stands still
                await self._pause(seconds, deaf=True)

    async def end(self) -> None:
        """Let `run` return once nothing waits."""
        self._ending = True
        self._stir.set()

    async def close(self) -> None:
        """Save the cursor and let go of the sink."""
        try:
            await self._save_quietly()
        finally:
            await self._sink.close()

    async def _step(self) -> None:
        if not self._registered:
            await self._register()
        if not self._opened:
            await self._sink.open()
            self._opened = True
        totals = await self._next()
        if totals:
            await self._deliver(totals)
        elif not self._ending:
            await self._idle()
        if self._dirty and time.monotonic() - self._saved_at >= SAVE_SECONDS:
            await self._save()

    async def _register(self) -> None:
        async with borrowed(self._pool) as connection:
            found = await row(connection, queries.sql("queries/sink_registered"), {"name": self.name})
        assert found is not None
        self._cursor = self._taken = self._saved = max(self._cursor, found[0])
        self._registered = True

    async def _next(self) -> Sequence[Total]:
        """Return what to deliver now: the refused whose time has come, the fresh, or a page of the table."""
        if self._refused and time.monotonic() >= self._retry_refused_at:
            return sorted(self._refused.values(), key=lambda total: total.version)[: self._sink.max_batch]
        if self._fresh:
            totals = self._fresh.popleft()
            self._fresh_size -= len(totals)
            self._taken = totals[-1].version
            return totals
        head = self._head  # as it is now: what is stored while the page is read may not be in it
        if self._cursor >= head:
            return ()
        async with borrowed(self._pool) as connection:
            found = await batch(
                connection,
                queries.sql("queries/balances_after"),
                {"version": self._cursor, "limit": self._sink.max_batch},
            )
        self._taken = found.totals[-1].version if found.totals else head
        if not found.totals:
            self._cursor = head
        return found.totals

    async def _deliver(self, totals: Sequence[Total]) -> None:
        size = self._sink.max_batch
        for start in range(0, len(totals), size):
            part = totals[start : start + size]
            refused = await self._sink.deliver(part)
            self._settle(part, refused)
            log.debug("publisher.delivered", sink=self.name, totals=len(part), refused=len(refused))

    def _settle(self, totals: Sequence[Total], rejections: Sequence[Rejection]) -> None:
        """Move the cursor past what has arrived; a refused total waits aside, a newer one of that user replaces it."""
        refused = {rejection.total.user_id: rejection for rejection in rejections}
        for total in totals:
            if total.user_id in refused:
                self._refused[total.user_id] = total
            else:
                self._refused.pop(total.user_id, None)
        self._cursor = max(self._cursor, totals[-1].version)
        self._delivered += len(totals) - len(refused)
        if not refused:
            self._note_recovery()
            return
        reason = next(iter(refused.values())).reason
        self._retry_refused_at = time.monotonic() + self._backoff.next(rejections[0].retry_after_seconds)
        self._note_error(
            f"{len(self._refused)} deliveries refused, e.g. {reason}",
            self._retry_refused_at - time.monotonic(),
        )
        if len(self._refused) > REFUSED_USERS:
            self._cursor = self._safe_cursor
            self._refused.clear()
            raise SinkUnavailable(f"more than {REFUSED_USERS} deliveries refused, e.g. {reason}")

    @property
    def _safe_cursor(self) -> int:
        """The cursor as it may be saved: before the first refused total."""
        return min([self._cursor, *(total.version - 1 for total in self._refused.values())])

    @property
    def _dirty(self) -> bool:
        return self._safe_cursor != self._saved or self._error != self._error_saved

    async def _idle(self) -> None:
        """Wait for a stir; meanwhile save what should be saved, and return to the refused in time."""
        now = time.monotonic()
        waits = []
        if self._dirty:
            waits.append(max(0.0, self._saved_at + SAVE_SECONDS - now))
        if self._refused:
            waits.append(max(0.0, self._retry_refused_at - now))
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
        cursor = self._safe_cursor
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

    async def _save_quietly(self) -> None:
        """Save what can be saved; without it more is delivered again, which is harmless."""
        try:
            await self._save()
        except (DatabaseUnavailable, SchemaError) as error:
            log.warning("publisher.left_unsaved", sink=self.name, reason=str(error))

    def _forget_fresh(self) -> None:
        self._fresh.clear()
        self._fresh_size = 0

    def _note_error(self, error: str, seconds: float) -> None:
        say = log.warning if self._error is None else log.info
        self._error = error
        say("publisher.paused", sink=self.name, reason=error, next_try_seconds=round(seconds, 2))

    def _note_recovery(self) -> None:
        if not self._refused:
            self._backoff = Backoff()
            if self._error is not None:
                log.info("publisher.recovered", sink=self.name)
            self._error = None
