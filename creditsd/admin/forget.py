"""Forgets a user: in our tables, and in every sink that can take back what it was told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

from creditsd.admin.sink_names import sink_names
from creditsd.admin.sinks import list_sinks
from creditsd.capture.lock_holders import strangers_for_sure
from creditsd.config.settings import Settings, SinkSettings
from creditsd.domain.errors import DatabaseUnavailable, LockNotFree, SinkUnavailable
from creditsd.domain.owner import Owner
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, check_own, connected, read_as, row, translated
from creditsd.postgres.session import limit_lock_waits
from creditsd.schema import install as schema
from creditsd.schema.owner import owner_of
from creditsd.sinks import Forgetting, Sink, make, open_for

# A batch that was read before we erased may still be on its way to a sink.
UNDERWAY_SECONDS = 5.0
LOOK_SECONDS = 0.1
DELIVERING = ("current", "behind", "incomplete")


@dataclass(frozen=True, slots=True)
class Reached:
    """What became of the user in one sink."""

    sink: str
    outcome: Literal["erased", "held nothing", "cannot forget", "unreachable", "not configured"]
    said: str


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was erased, and what could not be; `remaining` rows are the application's own."""

    user_id: str
    balances: int
    changes: int
    deliveries: int
    history: int
    remaining: int
    sinks: Sequence[Reached]

    @property
    def unreachable(self) -> bool:
        """Whether a sink that could have forgotten the user did not answer."""
        return any(each.outcome == "unreachable" for each in self.sinks)


class _Erased(NamedTuple):
    user_id: str
    version: int | None
    balances: int
    changes: int
    deliveries: int
    history: int
    remaining: int


class Eraser:
    """Our tables first, so that nobody can be told of the user again; then what was under way; then the sinks."""

    def __init__(self, connection: Connection, settings: Settings, user_id_type: str) -> None:
        self._connection = connection
        self._settings = settings
        self._user_id_type = user_id_type

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings) -> AsyncIterator[Eraser]:
        """Connect for as long as the block lasts. Raises SchemaError where the database is not as the settings say."""
        async with connected(settings.direct_dsn, purpose="forget", schema=settings.schema, direct=True) as connection:
            yield cls(connection, settings, (await schema.missing(connection, settings)).user_id_type)

    async def forget(self, user_id: str) -> Forgotten:
        """Erase a user everywhere we reach; repeating is harmless, and finishes what a sink's absence left.

        Raises InputError for what cannot be a user's id.
        """
        made = [(each, make(each)) for each in self._settings.sinks]  # a wrong setting is told before anything is gone
        erased = await self._erased(user_id)
        if erased.version is not None:
            await self._until_arrived(erased.version)
        owner = await owner_of(self._connection)
        reached = [await self._reached(each, sink, owner, erased.user_id) for each, sink in made]
        again = await self._erased(user_id)  # e.g. a delivery refused meanwhile
        reached += [
            Reached(name, "not configured", "its settings are gone: what it holds stays there")
            for name in await sink_names(self._connection, self._settings)
            if name not in self._settings.sink_names
        ]
        return Forgotten(
            erased.user_id,
            erased.balances + again.balances,
            erased.changes + again.changes,
            erased.deliveries + again.deliveries,
            erased.history + again.history,
            again.remaining,
            reached,
        )

    async def _erased(self, user_id: str) -> _Erased:
        query = sql_files.sql("queries/forgotten")
        try:
            with read_as(self._user_id_type, user_id), translated(self._connection):
                async with self._connection.transaction():
                    await check_own(self._connection)
                    # What is erased must not come back with a crash, unlike what can be computed again.
                    await self._connection.execute("SET LOCAL synchronous_commit = on")
                    await limit_lock_waits(self._connection, self._settings.lock_wait_seconds)
                    found = await row(self._connection, query, {"user_id": user_id})
        except LockNotFree as error:
            holders = "; ".join(sorted(str(each) for each in await strangers_for_sure(self._connection)))
            raise DatabaseUnavailable(
                f"a lock it takes to erase was not free for {self._settings.lock_wait_seconds:g} s"
                f"{f' ({holders})' if holders else ''}: run this again when that has ended"
            ) from error
        assert found is not None
        return _Erased(*found)

    async def _until_arrived(self, version: int) -> None:
        """Wait until no publisher that delivers can still have this version in its hands."""
        deadline = time.monotonic() + UNDERWAY_SECONDS
        names = set(self._settings.sink_names)
        while time.monotonic() < deadline:
            led = await row(self._connection, sql_files.sql("queries/leader_found"))
            sinks = await list_sinks(self._connection, self._settings, counted=1)
            told = all(each.cursor >= version for each in sinks if each.name in names and each.state in DELIVERING)
            if told or led is None or not led[0]:
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _reached(self, settings: SinkSettings, sink: Sink, owner: Owner, user_id: str) -> Reached:
        name = settings.name
        if not isinstance(sink, Forgetting):
            return Reached(name, "cannot forget", "what it was told is with its receivers: tell them")
        try:
            await open_for(owner, sink)
            count = await sink.forget(user_id)
        except SinkUnavailable as error:
            return Reached(name, "unreachable", f"{error}; run this again when it is back")
        finally:
            with contextlib.suppress(SinkUnavailable):
                await sink.close()
        if not count:
            return Reached(name, "held nothing", "held nothing of this user")
        return Reached(name, "erased", f"erased {count} {'entry' if count == 1 else 'entries'}")
