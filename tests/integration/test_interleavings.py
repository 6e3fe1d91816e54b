"""The protocol on a real server, a step at a time: what tests/protocol/model.py walks through in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import psycopg
import pytest

from creditsd.config.settings import Settings
from creditsd.postgres import sql_files
from tests.conftest import Database, eventually
from tests.integration.line import K_HELD, OTHER, USER, Line
from tests.integration.play import ADD, Play, Session

UNREAD = "SELECT count(*) FROM creditsd.changes WHERE NOT pg_visible_in_snapshot(xid, %s::text::pg_snapshot)"


class Sleeper:
    """The daemon's side, for a test to take step by step: ask, be granted, drain, hear, give K up."""

    def __init__(self, line: Line, keeper: Session, listener: Session) -> None:
        self._line = line
        self._keeper = keeper
        self._listener = listener
        self._asking: asyncio.Task[Any] | None = None
        self.mode: Literal["awake", "asking", "asleep"] = "awake"

    @classmethod
    @asynccontextmanager
    async def opened(cls, database: Database, settings: Settings) -> AsyncIterator[Sleeper]:
        async with Line.settled(settings) as line, database.connect() as keeper, database.connect() as listener:
            await listener.execute("LISTEN creditsd")
            sleeper = cls(line, keeper, listener)
            try:
                yield sleeper
            finally:
                await sleeper.wake()

    async def step(self) -> None:
        """Do what may be done next: go towards sleep, and turn round now and then."""
        match self.mode:
            case "awake":
                self._asking = asyncio.create_task(self._keeper.execute(sql_files.sql("queries/sleep_taken")))
                await eventually(self._known)
                self.mode = "asking"
            case "asking" if await self.granted():
                assert self._asking is not None
                await self._asking
                await self._line.settle()
                self.mode = "asleep"
            case "asking":
                await self._line.settle()
            case "asleep":
                await self.wake()

    async def granted(self) -> bool:
        """Whether the server has granted us K."""
        return await self._state() == (True,)

    async def _known(self) -> bool:
        """Whether our request has reached the server."""
        return await self._state() is not None

    async def _state(self) -> tuple[Any, ...] | None:
        pid = self._keeper.info.backend_pid
        held = await self._line.connection.execute(
            "SELECT granted FROM pg_locks WHERE locktype = 'advisory' AND pid = %s", [pid]
        )
        return await held.fetchone()

    async def nobody_holds_k(self) -> bool:
        """Whether K is free."""
        held = await self._line.connection.execute(K_HELD)
        return not await held.fetchall()

    async def wake(self) -> None:
        """Give up K, or the request for it."""
        if self.mode == "asking" and not await self.granted():
            await self._keeper.cancel_safe()
        if self._asking is not None:
            with contextlib.suppress(psycopg.errors.QueryCanceled):
                await self._asking
        self._asking = None
        await self._keeper.execute(sql_files.sql("queries/sleep_released"))
        self.mode = "awake"

    async def heard(self) -> bool:
        """Whether the bell has rung since it was last asked."""
        return bool([each async for each in self._listener.notifies(timeout=0)])

    async def unread(self) -> int:
        """How many committed changes the reader has not read."""
        found = await self._line.connection.execute(UNREAD, [self._line.change_reader._snapshot])
        return int((await found.fetchall())[0][0])

    async def must_not_sleep_over_anything(self) -> None:
        """Asleep, whatever has been committed has been read, or the bell comes; then it is read."""
        if self.mode == "asleep" and await self.unread():
            await eventually(self.heard)
            await self._line.settle()
            assert await self.unread() == 0


async def begun(session: Session, *statements: str) -> None:
    await session.execute("BEGIN")
    for statement in statements:
        await session.execute(statement.encode())


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_the_interleaving_it_never_sleeps_over_a_change(
    installation: Database, settings: Settings, seed: int
) -> None:
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(installation.connect()) for _ in range(4)]
        long = await stack.enter_async_context(installation.connect())
        sleeper = await stack.enter_async_context(Sleeper.opened(installation, settings))
        play = Play(seed, sessions)
        slept = 0
        if seed % 2:  # for an hour, and in everybody's snapshot
            await begun(long, "INSERT INTO archive VALUES (1)")
        for _ in range(120):
            if play.dice.random() < 0.6:
                await play.step()
            else:
                await sleeper.step()
            slept += sleeper.mode == "asleep"
            await sleeper.must_not_sleep_over_anything()
        assert slept
        await play.finish()
        await sleeper.must_not_sleep_over_anything()


async def test_a_silent_transaction_of_an_hour_keeps_it_from_sleep_and_nobody_waits_for_its_end(
    installation: Database, settings: Settings
) -> None:
    async with (
        Sleeper.opened(installation, settings) as sleeper,
        installation.connect() as silent,
        installation.connect() as other,
    ):
        await silent.execute("BEGIN")
        await silent.execute(ADD, [USER, 1])
        await sleeper.step()
        for amount in range(1, 4):
            await other.execute(ADD, [OTHER, amount])
            await eventually(sleeper.heard)  # everybody new rings
            await sleeper.step()
            assert (sleeper.mode, await sleeper.unread()) == ("asking", 0)
        await silent.execute("COMMIT")
        await eventually(sleeper.granted)
        await sleeper.step()
        assert (sleeper.mode, await sleeper.unread()) == ("asleep", 0)


async def test_a_silent_transaction_that_is_prepared_keeps_it_from_sleep_until_it_is_committed(
    installation: Database, settings: Settings
) -> None:
    async with Sleeper.opened(installation, settings) as sleeper, installation.connect() as writer:
        await writer.execute("BEGIN")
        await writer.execute(ADD, [USER, 1])
        await writer.execute("PREPARE TRANSACTION 'an hour'")
        await sleeper.step()
        await sleeper.step()
        assert sleeper.mode == "asking"
        await writer.execute("COMMIT PREPARED 'an hour'")
        await eventually(sleeper.granted)
        await sleeper.step()
        assert (sleeper.mode, await sleeper.unread()) == ("asleep", 0)


async def test_a_savepoint_that_took_back_the_silence_tries_again(installation: Database, settings: Settings) -> None:
    async with Sleeper.opened(installation, settings) as sleeper, installation.connect() as writer:
        await begun(writer, "SAVEPOINT here")
        await writer.execute(ADD, [USER, 1])
        await writer.execute("ROLLBACK TO here")
        await sleeper.step()
        await eventually(sleeper.granted)
        await sleeper.step()
        assert sleeper.mode == "asleep"
        await writer.execute(ADD, [USER, 2])
        await writer.execute("COMMIT")
        await sleeper.must_not_sleep_over_anything()


async def test_a_snapshot_from_before_it_slept_does_not_silence_a_writer(
    installation: Database, settings: Settings
) -> None:
    async with Sleeper.opened(installation, settings) as sleeper, installation.connect() as writer:
        await writer.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await writer.execute("SELECT FROM user_credits")
        await sleeper.step()
        await eventually(sleeper.granted)
        await sleeper.step()
        assert sleeper.mode == "asleep"
        await writer.execute(ADD, [USER, 2])
        await writer.execute("COMMIT")
        await sleeper.must_not_sleep_over_anything()


async def test_a_dead_daemon_leaves_no_sleep_behind_and_the_next_waits_for_the_silent(
    installation: Database, settings: Settings
) -> None:
    async with installation.connect() as writer, Sleeper.opened(installation, settings) as successor:
        async with installation.connect() as dead:
            await dead.execute(sql_files.sql("queries/sleep_taken"))
            await dead.execute("LISTEN creditsd")
        await eventually(successor.nobody_holds_k)
        await writer.execute("BEGIN")
        await writer.execute(ADD, [USER, 1])
        await successor.step()
        await successor.step()
        assert successor.mode == "asking"  # so the writer was silent: with nobody there it pays nothing
        await writer.execute("COMMIT")
        await eventually(successor.granted)
        await successor.step()
        assert (successor.mode, await successor.unread()) == ("asleep", 0)
