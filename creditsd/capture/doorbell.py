"""Sleeping and waking: writers ring only while the daemon sleeps, and find that out without asking a table.

The lock K (advisory, shared by silent writers, exclusive for the sleeper) carries the whole protocol:

* A writer tries K shared after its change. Granted: it keeps silent, and holds K until its transaction ends. Refused:
  it rings.
* Going to sleep, the daemon asks for K exclusively. From then on every new writer is refused, and rings; the grant
  waits for the silent ones. Then it drains once more, and only then waits for the bell.

So every silent writer's commit came before that drain, and nobody later is silent.

`listener` hears and proves the bell, `sleep_lock` takes and releases K, `change_rate` counts; here is when to do what.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from psycopg import errors

from creditsd.capture.change_rate import ChangeRate
from creditsd.capture.listener import Listener
from creditsd.capture.sleep_lock import SleepLock
from creditsd.config.settings import Settings
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, connected, row

log = structlog.get_logger()

QUEUE_FULL = (
    "the queue of notifications is more than half full, which a session of any database causes that listens and has a "
    "transaction open: end the oldest ones in pg_stat_activity"
)

DoorbellState = Literal["awake", "asking", "asleep", "polling"]


@dataclass(frozen=True, slots=True)
class Timings:
    """When the daemon sleeps, wakes, and rings for itself.

    A ring costs its writer a turn at one lock of the whole cluster, held over a flush. So more than `wake_per_second`
    rings are too many, and below `sleep_per_second` the bell is quicker than any poll.

    A slow or busy disk may not allow so many rings: they queue at that lock, and the rate never tells. So once
    `queued_rings` come together we look at the queue itself, every `look_seconds` at most, and where there is one, stay
    awake for `awake_seconds`: long enough to see what the writers would do.

    Where the queue of notifications is more than `crowded_queue` full, whoever keeps it from being freed, we look at it
    every `crowded_heartbeat_seconds`; above `full_queue` writers keep silent: a full one would fail their commits.

    Awake, it rests as long as it worked, since it shares the machine with the writers it must not slow: what waits
    meanwhile makes the next batch larger, and a larger one costs less a change. Above `busy_per_second`, where the
    writers fill the machine and a batch is large in any case, it rests longer in proportion.

    Kept warm, it looks every `warm_look_seconds` also while it sleeps: processes and caches that have just been used
    answer sooner. The lock and the bell are as ever, so nothing depends on it.

    While K waits for somebody's long transaction, everybody new rings; `asking_poll_seconds` is for the case that a
    ring is lost.
    """

    heartbeat_seconds: float = 10.0
    crowded_heartbeat_seconds: float = 1.0
    proof_seconds: float = 5.0  # how long our own ring may take
    asking_poll_seconds: float = (
        1.0  # while K waits for somebody's long transaction, everybody new rings; nothing depends on it
    )
    wake_per_second: float = 250
    sleep_per_second: float = 100
    queued_rings: int = 2
    look_seconds: float = 0.1
    awake_seconds: float = 1.0
    crowded_queue: float = 0.1
    full_queue: float = 0.5  # as creditsd.heartbeat has it
    busy_per_second: float = 2_500
    longest_rest_seconds: float = 0.025
    warm_look_seconds: float = 0.003

    def rest_seconds(self, worked_seconds: float, changes_per_second: float) -> float:
        """Say how long to rest, awake, after so much work, while so many changes come."""
        longer = max(1.0, changes_per_second / self.busy_per_second)
        return min(worked_seconds * longer, self.longest_rest_seconds)


class Doorbell:
    """Decides between sleeping and polling; `rest` is the line's only wait. Without a listener and a lock it polls."""

    def __init__(
        self,
        listener: Listener | None,
        lock: SleepLock | None,
        *,
        poll_seconds: float,
        busy_poll_seconds: float,
        keep_warm_seconds: float = 0.0,
        timings: Timings | None = None,
    ) -> None:
        self._listener = listener
        self._lock = lock
        self._poll_seconds = poll_seconds
        self._timings = timings or Timings()
        self._busy_poll_seconds = busy_poll_seconds
        self._keep_warm_seconds = keep_warm_seconds
        self._warm_until = float("-inf")
        self._rate = ChangeRate()
        self._wakeup = asyncio.Event()  # whatever a rest must look up for
        self._rung = False  # a ring, a grant, the end: the changes should be looked at
        self._next_heartbeat = 0.0
        self._next_look = 0.0
        self._awake_until = 0.0

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, settings: Settings, *, told: Callable[[str], None], timings: Timings | None = None
    ) -> AsyncIterator[Doorbell]:
        """Connect what hearing and sleeping take, and begin to listen. Raises DatabaseUnavailable, ConfigError."""
        listener, lock = None, None
        async with AsyncExitStack() as stack:
            if settings.wakeup == "doorbell":
                hearing, sleeping = (
                    connected(settings.direct_dsn, purpose=purpose, schema=settings.schema, direct=True)
                    for purpose in ("doorbell", "sleep")
                )
                listener = Listener(await stack.enter_async_context(hearing), told=told)
                lock = SleepLock(await stack.enter_async_context(sleeping))
                await listener.listen()
            yield cls(
                listener,
                lock,
                poll_seconds=settings.poll_seconds,
                busy_poll_seconds=settings.busy_poll_seconds,
                keep_warm_seconds=settings.keep_warm_seconds,
                timings=timings,
            )

    def beside(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what must run beside `rest`: hearing the bell, and keeping K. Each raises DatabaseUnavailable."""
        if self._listener is None or self._lock is None:
            return []
        return [self._listener.hear(wake=self.end_rest), self._lock.keep(wake=self.end_rest)]

    @property
    def state(self) -> DoorbellState:
        """What the daemon is doing about waking."""
        if self._lock is None or self._listener is None or not self._listener.proven:
            return "polling"
        if self._lock.held:
            return "asleep"
        return "asking" if self._lock.wanted else "awake"

    def end_rest(self) -> None:
        """End the rest that is under way, or the next one."""
        self._rung = True
        self._wakeup.set()

    @property
    def heartbeat_due(self) -> bool:
        """Whether it is time to ring for ourselves, which also tells which server this is."""
        return time.monotonic() >= self._next_heartbeat

    async def heartbeat(self, connection: Connection) -> dict[str, Any]:
        """Ring for ourselves on a writing connection, and return the server's identity; `rest` notices a lost ring.

        Where notifications queue up, no ring is tried: the bell is lost, the server is not.
        """
        now, timings = time.monotonic(), self._timings
        proof = self._listener.begin_proof(now + timings.proof_seconds) if self._listener is not None else None
        try:
            beat = await _beat(connection, proof)
        except errors.ProgramLimitExceeded:  # it has filled up since it was asked
            beat = await _beat(connection, None) | {"queue_usage": 1.0}
        usage = float(beat["queue_usage"])
        if self._listener is not None and usage > timings.full_queue:
            self._listener.lose(QUEUE_FULL)
        crowded = usage > timings.crowded_queue
        self._next_heartbeat = now + (timings.crowded_heartbeat_seconds if crowded else timings.heartbeat_seconds)
        return beat

    async def heed_queue(self, connection: Connection, *, read: int) -> None:
        """Wake where writers queue to ring. Takes what the last drain read, and a connection that is at rest."""
        now, timings = time.monotonic(), self._timings
        if self.state not in ("asking", "asleep") or now < self._next_look:
            return
        if read + self._rate.together(now) < timings.queued_rings:
            return
        self._next_look = now + timings.look_seconds
        found = await row(connection, sql_files.sql("queries/rings_queued"))
        if found is not None and found[0] >= timings.queued_rings:
            self._awake_until = now + timings.awake_seconds
            await self._wake()

    async def rest(self, *, read: int, worked_seconds: float, due_seconds: float | None) -> None:
        """Wait until the changes should be looked at again.

        Takes how many changes the last drain read, how long that took, and in how long time alone changes a total.
        """
        now = time.monotonic()
        self._rate.add(now, read)
        if read:
            self._warm_until = now + self._keep_warm_seconds
        if self._listener is not None:
            self._listener.check(now)
        # Where we poll, the heartbeat is sent with a poll: nothing but a change of a total comes between two of them.
        longest = float("inf") if self._lock is None else self._next_heartbeat - now
        if due_seconds is not None:
            longest = min(due_seconds, longest)
        await self._pause(min(longest, await self._decide(now, worked_seconds)))
        if self._lock is not None:
            self._lock.granted = False

    async def _decide(self, now: float, worked_seconds: float) -> float:
        """Fall asleep, wake, or stay as we are; return for how many seconds to wait at most."""
        timings, lock, rate = self._timings, self._lock, self._rate.per_second
        state = self.state
        if lock is None or state == "polling":
            await self._wake()
            return self._poll_seconds
        if state == "awake":
            if rate < timings.sleep_per_second and now >= self._awake_until:
                lock.ask()
                log.debug("doorbell.asked", changes_per_second=rate)
                return timings.asking_poll_seconds
            self._rung = False  # by writers that began before we woke
            return max(self._busy_poll_seconds, timings.rest_seconds(worked_seconds, rate))
        if rate > timings.wake_per_second:
            await self._wake()
            return 0.0
        warm_seconds = timings.warm_look_seconds if now < self._warm_until else float("inf")
        if state == "asking":
            return min(timings.asking_poll_seconds, warm_seconds)
        # Where K was granted during the last drain: once more, now that no silent writer is left.
        return 0.0 if lock.granted else warm_seconds

    async def _pause(self, seconds: float) -> None:
        """Wait until there is something to look at; what happens during the drain that follows ends the next pause."""
        until = time.monotonic() + seconds
        while not self._rung:
            deadline = self._listener.deadline if self._listener is not None else None
            left = (until if deadline is None else min(until, deadline)) - time.monotonic()
            if left <= 0:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wakeup.wait()
            self._wakeup.clear()
        self._rung = False

    async def _wake(self) -> None:
        """Let writers keep silent."""
        if self._lock is not None:
            await self._lock.give_up()


async def _beat(connection: Connection, proof: str | None) -> dict[str, Any]:
    found = await row(connection, sql_files.sql("queries/heartbeat"), {"proof": proof})
    assert found is not None
    return dict(found[0])
