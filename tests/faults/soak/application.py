"""The application: clients that write all day, and a judge of every write that failed or had to wait."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Self

import psycopg

from tests.faults.soak.ledger import Connection, Ledger, read
from tests.faults.soak.tally import Tally
from tests.faults.soak.writes import SHAPES, Transaction

LONGEST_WRITE_SECONDS = 10.0
RESOLVE_SECONDS = 60.0
LONGEST_END_SECONDS = 90.0
"""How long what was begun may take to end: longer than it takes to see to a transaction that stayed prepared."""

# Whether somebody of ours is what a session of the application's waits for, and since when.
BLOCKED = """
SELECT waiting.pid, blocker.application_name, left(blocker.query, 80),
    extract(epoch FROM clock_timestamp() - min(pg_locks.waitstart))::float8
FROM pg_stat_activity AS waiting
JOIN pg_locks ON pg_locks.pid = waiting.pid AND NOT pg_locks.granted
CROSS JOIN unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid)
JOIN pg_stat_activity AS blocker ON blocker.pid = blocking.pid
WHERE waiting.application_name = 'application' AND blocker.application_name LIKE 'creditsd%'
GROUP BY 1, 2, 3
"""
LONGEST_BLOCKED_SECONDS = 1.0


@dataclass(slots=True)
class Application:
    """Its clients write between `going` and `paused`; failures are judged by what was out of order at the time."""

    dsn: str
    direct_dsn: str
    ledger: Ledger
    seed: str
    clients: int = 3
    pause_seconds: float = 0.03
    without: frozenset[str] = frozenset()
    tally: Tally = field(default_factory=Tally)
    _out_of_order: Counter[str] = field(default_factory=Counter)
    _excused_until: float = 0.0
    _going: asyncio.Event = field(default_factory=asyncio.Event)
    _busy: int = 0
    _at_rest: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Let clients be there for as long as the block lasts."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._client(number)) for number in range(self.clients)]
            tasks.append(group.create_task(self._watch()))
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()

    def go(self) -> None:
        """Write."""
        self._going.set()

    async def pause(self) -> None:
        """Write no more, and return when what was begun has ended, or should have long ago."""
        self._going.clear()
        if self._busy:
            self._at_rest.clear()
            try:
                async with asyncio.timeout(LONGEST_END_SECONDS):
                    await self._at_rest.wait()
            except TimeoutError:
                self.tally.failures.append(f"{self._busy} writes did not end within {LONGEST_END_SECONDS:.0f} s")

    @contextlib.contextmanager
    def excusing(self, reason: str, seconds_after: float = 0.0) -> Iterator[None]:
        """Judge no write that fails or waits within the block, or within so many seconds after it."""
        self._out_of_order[reason] += 1
        try:
            yield
        finally:
            self._out_of_order[reason] -= 1
            self._excused_until = max(self._excused_until, time.monotonic() + seconds_after)

    async def _client(self, number: int) -> None:
        dice = random.Random(f"{self.seed}:{number}")
        connection: Connection | None = None
        try:
            while True:
                await self._going.wait()
                self._busy += 1
                try:
                    connection = await self._write(connection, dice)
                finally:
                    self._busy -= 1
                    if not self._busy:
                        self._at_rest.set()
                await asyncio.sleep(self.pause_seconds)
        finally:
            if connection is not None:
                await connection.close()

    async def _write(self, connection: Connection | None, dice: random.Random) -> Connection | None:
        """Write one transaction, on this connection or a new one; return it where it can still be used."""
        names = [name for name in SHAPES if name not in self.without]
        (name,) = dice.choices(names, [SHAPES[name].weight for name in names])
        shape = SHAPES[name]
        users = dice.sample(self.ledger.users, shape.users) if shape.users else None
        async with self.ledger.holding(users) as held:
            begun, transaction = time.monotonic(), None
            try:
                connection = connection or await self.connect()
                transaction = Transaction(connection, dice, users or held)
                await shape.write(transaction)
                self.tally.written[name] += 1
                self.ledger.note(transaction.reading)
                self._judge_time(name, time.monotonic() - begun)
                return connection
            except psycopg.Error as error:
                self._judge(name, error, begun)
                if transaction is not None:
                    self.ledger.note(transaction.reading)  # it may have been committed
                if connection is not None:
                    await connection.close()
                if transaction is not None and transaction.prepared:
                    await self._resolve(transaction)
                await asyncio.sleep(0.05)
                return None

    async def connect(self) -> Connection:
        """Connect as the application does, through the pooler where there is one."""
        threshold = 5 if self.dsn == self.direct_dsn else None
        return await psycopg.AsyncConnection.connect(
            self.dsn, autocommit=True, connect_timeout=10, application_name="application", prepare_threshold=threshold
        )

    def _judge_time(self, name: str, seconds: float) -> None:
        if seconds > LONGEST_WRITE_SECONDS and not self._is_excused(seconds):
            self.tally.failures.append(f"a write ({name}) took {seconds:.1f} s")

    def _judge(self, name: str, error: psycopg.Error, begun: float) -> None:
        """A write may fail where something is out of order, or for what its isolation level says it may fail for."""
        if isinstance(error, psycopg.errors.SerializationFailure) and name in ("repeatable read", "serializable"):
            self.tally.serialization += 1
        elif self._is_excused(time.monotonic() - begun):
            self.tally.excused += 1
        else:
            self.tally.failures.append(f"a write ({name}) failed: {type(error).__name__}: {error}")

    def _is_excused(self, seconds: float) -> bool:
        """Whether something was out of order within the last so many seconds."""
        return any(self._out_of_order.values()) or time.monotonic() - seconds < self._excused_until

    async def _resolve(self, transaction: Transaction) -> None:
        """Commit what is prepared and nobody's, if it is; until then its users are held."""
        name, deadline = transaction.prepared, time.monotonic() + RESOLVE_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.Error):
                async with await self.connect() as connection:
                    cursor = await connection.execute("SELECT FROM pg_prepared_xacts WHERE gid = %s", (name,))
                    if await cursor.fetchall():
                        await connection.execute(f"COMMIT PREPARED '{name}'".encode())
                    self.ledger.note(await read(connection, transaction.users))
                return
            await asyncio.sleep(0.1)
        self.tally.failures.append(f"the transaction {name} stayed prepared")

    async def _watch(self) -> None:
        """Look four times a second whether a write waits for a lock that one of our sessions holds."""
        seen: set[int] = set()
        while True:
            with contextlib.suppress(psycopg.Error):
                async with await psycopg.AsyncConnection.connect(self.direct_dsn, autocommit=True) as connection:
                    while True:
                        cursor = await connection.execute(BLOCKED)
                        for pid, blocker, query, seconds in await cursor.fetchall():
                            if seconds > LONGEST_BLOCKED_SECONDS and pid not in seen:
                                seen.add(pid)
                                self.tally.failures.append(f"a write waited {seconds:.1f} s for {blocker}: {query}")
                        await asyncio.sleep(0.25)
            await asyncio.sleep(0.25)
