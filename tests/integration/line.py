"""The line without its daemon: reader and balances on one connection, stepped by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from psycopg.conninfo import make_conninfo

from creditsd.capture.change_reader import ChangeReader, Resumption
from creditsd.config.settings import Settings
from creditsd.domain.total import Total
from creditsd.postgres.connections import Connection, connected
from creditsd.schema import install as schema
from creditsd.sinks import Rejection
from creditsd.totals.recompute import Recomputer
from tests.conftest import PATIENCE_SECONDS, Database

USER = "00000000-0000-0000-0000-000000000001"
OTHER = "00000000-0000-0000-0000-000000000002"

# Advisory locks of this database alone: the view lists those of the whole server, where other daemons may run.
ADVISORY = (
    "FROM pg_locks WHERE locktype = 'advisory' "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)

# Our locks, as what takes them names them.
K = "'creditsd.changes'::regclass::oid::int4, 806331267"
LEAD = "'creditsd.changes'::regclass::oid::int4, 1249075342"
TURN = "'creditsd.balances'::regclass::oid::int4, 561984073"

LEADING = f"{ADVISORY} AND objid = 1249075342 AND granted"
TERMINATE_LEADER = f"SELECT pg_terminate_backend(pid) FROM (SELECT pid {LEADING}) AS leader"
K_HELD = f"SELECT mode, granted {ADVISORY} AND objid = 806331267 AND classid = 'creditsd.changes'::regclass"


def user(number: int) -> str:
    """Name a user of the reference table."""
    return f"00000000-0000-0000-0000-{number:012d}"


def configured(database: Database, **settings: Any) -> Settings:
    """Settings for a database, without the HTTP surface."""
    return Settings.model_validate({"dsn": database.dsn, "http": {"listen": ""}, **settings})


async def installed(database: Database, **settings: Any) -> Settings:
    """Install, and return the settings it was done with."""
    made = configured(database, **settings)
    await schema.install(made)
    return made


def as_role(database: Database, role: str) -> Database:
    """The same database as another role sees it."""
    dsn = make_conninfo(database.dsn, user=role, password="secret")
    return Database(database.server, database.name, dsn)


def said(total: Total, *names: str) -> tuple[Any, ...]:
    """Some of what a total says."""
    return tuple(getattr(total, name) for name in names)


@dataclass(frozen=True, slots=True)
class Line:
    """What the daemon leads with, for a test to call in the order it likes."""

    connection: Connection
    change_reader: ChangeReader
    recomputer: Recomputer
    resumption: Resumption

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings) -> AsyncIterator[Self]:
        """Connect and resume, as a daemon does that has just become the leader."""
        async with connected(settings.dsn, purpose="leader") as connection:
            await schema.missing(connection, settings)
            policy = settings.policy
            change_reader = ChangeReader(connection, policy)
            recomputer = Recomputer(connection, policy)
            yield cls(connection, change_reader, recomputer, await change_reader.resume())

    @classmethod
    @asynccontextmanager
    async def settled(cls, settings: Settings) -> AsyncIterator[Self]:
        """The same with the first resync and all that waits done."""
        async with cls.opened(settings) as line:
            await line.settle()
            yield line

    async def settle(self, max_users: int = 2000) -> list[Total]:
        """Do all there is to do at this moment, as the daemon would; return what it would publish."""
        found: list[Total] = []
        for _ in range(1000):
            anew = self.change_reader._pass["upto"] is None
            drained = await self.change_reader.drain(max_users)
            found += drained.totals
            page = drained.page
            if page["resyncing"] is not None:
                resynced = await self.recomputer.resync_next(max_users)
                found += resynced.totals
            elif page["due_seconds"] is not None and page["due_seconds"] <= 0:
                found += (await self.recomputer.recompute_due(max_users)).totals
            elif anew and page["changes"] == 0 and not page["full"]:
                return found
        raise AssertionError("there is no end to it")

    async def marked(self) -> list[str]:
        """Who has been marked and not read yet, once for each mark, in order."""
        cursor = await self.connection.execute(
            "SELECT user_id::text FROM creditsd.changes WHERE NOT pg_visible_in_snapshot(xid, %s::text::pg_snapshot) "
            "ORDER BY user_id",
            [self.change_reader._snapshot],
        )
        return [str(name) for (name,) in await cursor.fetchall()]

    async def stored(self) -> dict[str, Any]:
        """The stored credits of everyone."""
        cursor = await self.connection.execute("SELECT user_id::text, credits FROM creditsd.balances")
        return {str(name): amount for name, amount in await cursor.fetchall()}


class MemorySink:
    """A sink that keeps what arrives, and can be made to fail as a real one does."""

    def __init__(self, max_batch: int = 2000) -> None:
        self.max_batch = max_batch
        self.deliveries: list[list[Total]] = []
        self.newest: dict[str, Total] = {}
        self.refuses: set[str] = set()
        self.failure: Exception | None = None
        self.tries = 0
        self.opened = self.closed = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._arrived = asyncio.Condition()

    @property
    def totals(self) -> list[Total]:
        """Everything that was handed over, in that order."""
        return [total for delivery in self.deliveries for total in delivery]

    async def open(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.opened += 1

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        self.tries += 1
        await self.gate.wait()
        async with self._arrived:
            self._arrived.notify_all()
            if self.failure is not None:
                raise self.failure
            self.deliveries.append(list(totals))
            for total in totals:
                held = self.newest.get(total.user_id)
                if total.user_id not in self.refuses and (held is None or held.version < total.version):
                    self.newest[total.user_id] = total
            return [Rejection(total, "not today") for total in totals if total.user_id in self.refuses]

    async def held(self, user_id: str) -> int | None:
        found = self.newest.get(user_id)
        return found.version if found else None

    async def close(self) -> None:
        self.closed += 1

    async def until(self, holds: Any, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for a delivery, or a try, after which something holds."""
        async with asyncio.timeout(seconds), self._arrived:
            await self._arrived.wait_for(holds)

    async def until_credits(self, user_id: str, amount: int, seconds: float = PATIENCE_SECONDS) -> Total:
        """Wait until a user has so many credits here."""
        await self.until(lambda: user_id in self.newest and self.newest[user_id].credits == amount, seconds)
        return self.newest[user_id]


async def tried(sink: MemorySink) -> int:
    """How often something was to be delivered there, also where it has to wait."""
    return sink.tries
