"""Sleeping and waking: writers ring only while the daemon sleeps, and find that out without asking a table.

The lock K (advisory, shared by silent writers, exclusive for the sleeper) carries the whole protocol:

* A writer tries K shared after its change. Granted: it keeps silent, and holds K until its transaction ends. Refused:
  it rings.
* Going to sleep, the daemon asks for K exclusively. From then on every new writer is refused, and rings; the grant
  waits for the silent ones. Then it drains once more, and only then waits for the bell.

So every silent writer's commit came before that drain, and nobody later is silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import structlog
from psycopg import errors

from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row, translated

log = structlog.get_logger()

DoorbellState = Literal["awake", "asking", "asleep", "polling"]

CHANNEL = "creditsd"
PROOF_SECONDS = 30.0  # how often we ring for ourselves
PROOF_PATIENCE_SECONDS = 5.0  # how long our own ring may take

# A ring costs its writer a turn at one lock of the whole cluster, held over a flush. So more than WAKE_PER_SECOND rings
# are too many, and below SLEEP_PER_SECOND the bell is quicker than any poll.
WINDOW_SECONDS = 0.1
WAKE_PER_SECOND = 250
SLEEP_PER_SECOND = 100

# A slow or busy disk may not allow so many rings: they queue at that lock, and the rate never tells. So once a few come
# together we look at the queue itself, and where there is one, stay awake long enough to see what the writers would do.
QUEUED_RINGS = 2
LOOK_SECONDS = 0.1
AWAKE_SECONDS = 1.0

# While our request for K waits for somebody's long transaction, everybody new rings; nothing shall depend on that.
ASKING_POLL_SECONDS = 1.0

# Awake, for each second of work this many of rest: the daemon shares the machine with the writers it must not slow.
# Below so many changes a second that machine has time to spare, and the rest is shorter in proportion.
REST_PER_WORK = 5.0
FULL_REST_PER_SECOND = 4000
LONGEST_REST_SECONDS = 0.25


class Doorbell:
    """The bell and its lock. `rest` is the line's only wait; `listening` and `hold_sleep_lock` run beside it."""

    def __init__(
        self,
        listener: Connection,
        keeper: Connection,
        *,
        polls: bool,
        poll_seconds: float,
        busy_poll_seconds: float,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._listener = listener
        self._keeper = keeper
        self._polls = polls
        self._poll_seconds = poll_seconds
        self._busy_poll_seconds = busy_poll_seconds
        self._told = told
        self._wakeup = asyncio.Event()  # whatever a rest must look up for
        self._rung = False  # a ring, a grant, the end: the changes should be looked at
        self._turn = asyncio.Event()  # hold_sleep_lock() has something to do
        self._wants = False
        self._holds = False
        self._granted = False  # since the last drain began
        self._proven = False
        self._lost = False
        self._proof = ""
        self._proof_deadline = 0.0
        self._next_proof = 0.0
        self._seen: deque[tuple[float, int]] = deque()
        self._next_look = 0.0
        self._awake_until = 0.0

    @property
    def state(self) -> DoorbellState:
        """What the daemon is doing about waking."""
        if self._polls or not self._proven:
            return "polling"
        if self._holds:
            return "asleep"
        return "asking" if self._wants else "awake"

    def end_rest(self) -> None:
        """End the rest that is under way, or the next one."""
        self._rung = True
        self._wakeup.set()

    async def listen(self) -> None:
        """Begin to listen; before the first proof, which would be lost otherwise."""
        with translated():
            await self._listener.execute(f"LISTEN {CHANNEL}")

    async def listening(self) -> None:
        """Hear the bell until the connection ends, and pass on what is no ring. Raises DatabaseUnavailable."""
        with translated():
            async for heard in self._listener.notifies():
                if not heard.payload:
                    self.end_rest()
                elif heard.payload == self._proof:
                    self._hear_proof()
                else:
                    self._told(heard.payload)

    async def hold_sleep_lock(self) -> None:
        """Take and release K as `rest` wants it, on its own connection: one that waits for a lock is deaf.

        Raises DatabaseUnavailable as soon as the server ends that connection: K went with it, so writers keep silent.
        """
        while True:
            await self._next_turn()
            with translated():
                try:
                    if self._wants and not self._holds:
                        await _do(self._keeper, "queries/sleep_taken")
                        self._holds = self._granted = True
                        log.debug("doorbell.slept")
                    elif self._holds and not self._wants:
                        await _do(self._keeper, "queries/sleep_released")
                        self._holds = False
                    elif self._holds:
                        await self._keeper.execute("")  # the server has said something: goodbye, mostly
                except errors.QueryCanceled:
                    # By _wake, while we asked. K may have been granted in the same moment, and a session keeps it.
                    await _do(self._keeper, "queries/sleep_released")
                    self._holds = False
            if self._wants != self._holds:
                self._turn.set()
            self.end_rest()

    async def _next_turn(self) -> None:
        """Wait until K is wanted or unwanted, or the server speaks on the connection that holds it."""
        loop, descriptor = asyncio.get_running_loop(), self._keeper.fileno()
        loop.add_reader(descriptor, self._turn.set)
        try:
            await self._turn.wait()
        finally:
            loop.remove_reader(descriptor)
        self._turn.clear()

    def due_for_proof(self) -> bool:
        """Whether it is time to ring for ourselves, which also tells which server this is."""
        return time.monotonic() >= self._next_proof

    async def prove(self, connection: Connection) -> dict[str, Any]:
        """Ring for ourselves on a writing connection, and return the server's identity; `rest` notices a lost ring."""
        proof = "" if self._polls else f"proof {secrets.token_hex(8)}"
        self._proof = proof
        self._proof_deadline = time.monotonic() + PROOF_PATIENCE_SECONDS
        self._next_proof = time.monotonic() + PROOF_SECONDS
        found = await row(connection, sql_files.sql("queries/heartbeat"), {"proof": proof or None})
        assert found is not None
        return dict(found[0])

    async def heed_queue(self, connection: Connection, *, read: int) -> None:
        """Wake where writers queue to ring. Takes what the last drain read, and a connection that is at rest."""
        now = time.monotonic()
        together = read + sum(count for at, count in self._seen if at > now - WINDOW_SECONDS)
        if self.state not in ("asking", "asleep") or together < QUEUED_RINGS or now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        found = await row(connection, sql_files.sql("queries/rings_queued"))
        if found is not None and found[0] >= QUEUED_RINGS:
            self._awake_until = now + AWAKE_SECONDS
            await self._wake()

    async def rest(self, *, read: int, worked_seconds: float, due_seconds: float | None) -> None:
        """Wait until the changes should be looked at again.

        Takes how many changes the last drain read, how long that took, and in how long time alone changes a total.
        """
        now = time.monotonic()
        rate = self._meter(now, read)
        longest = min(seconds for seconds in (due_seconds, self._next_proof - now) if seconds is not None)
        self._check_proof(now)
        match self.state:
            case "polling":
                await self._wake()
                await self._pause(min(self._poll_seconds, longest))
            case "awake" if rate < SLEEP_PER_SECOND and now >= self._awake_until:
                self._wants = True
                self._turn.set()
                log.debug("doorbell.asked", changes_per_second=rate)
                await self._pause(min(ASKING_POLL_SECONDS, longest))
            case "awake":
                rest = worked_seconds * REST_PER_WORK * min(1.0, rate / FULL_REST_PER_SECOND)
                pause = min(max(self._busy_poll_seconds, rest), LONGEST_REST_SECONDS)
                self._rung = False  # by writers that began before we woke
                await self._pause(min(pause, longest))
            case "asking" | "asleep" if rate > WAKE_PER_SECOND:
                await self._wake()
            case "asking":
                await self._pause(min(ASKING_POLL_SECONDS, longest))
            case "asleep" if self._granted:
                pass  # K was granted during the last drain: once more, now that no silent writer is left
            case "asleep":
                await self._pause(longest)
        self._granted = False

    async def _pause(self, seconds: float) -> None:
        """Wait until there is something to look at; what happens during the drain that follows ends the next pause."""
        until = time.monotonic() + seconds
        while not self._rung:
            now = time.monotonic()
            left = min(until, self._proof_deadline) - now if self._proof else until - now
            if left <= 0:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wakeup.wait()
            self._wakeup.clear()
        self._rung = False

    async def _wake(self) -> None:
        """Give K up, or the request for it: from now on writers keep silent."""
        if not self._wants:
            return
        self._wants = self._granted = False
        self._turn.set()
        log.debug("doorbell.woke", was_asleep=self._holds)
        if not self._holds:
            with translated():
                await self._keeper.cancel_safe(timeout=5)

    def _meter(self, now: float, read: int) -> float:
        """Return the changes a second of the last moment."""
        if read:
            self._seen.append((now, read))
        while self._seen and self._seen[0][0] < now - WINDOW_SECONDS:
            self._seen.popleft()
        return sum(count for _, count in self._seen) / WINDOW_SECONDS

    def _hear_proof(self) -> None:
        self._proof = ""
        if not self._proven:
            log.info("doorbell.proven")
            self._rung = True  # from polling to the bell
        self._proven, self._lost = True, False
        self._wakeup.set()

    def _check_proof(self, now: float) -> None:
        if not self._proof or now < self._proof_deadline:
            return
        self._proof = ""
        self._proven = False
        if not self._lost:
            log.error(
                "doorbell.lost",
                hint="LISTEN needs a direct connection: set CREDITSD_LISTEN_DSN to one that goes through no pooler",
                polling_every_seconds=self._poll_seconds,
            )
        self._lost = True


async def _do(connection: Connection, name: str) -> None:
    """Run a statement whose answer says nothing more than that it has ended."""
    await connection.execute(sql_files.sql(name).encode())
