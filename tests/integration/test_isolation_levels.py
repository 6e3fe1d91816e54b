"""Writers of every isolation, and of two phases: each change is read once it is committed, and nobody fails by us."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from psycopg import IsolationLevel

from creditsd.config.settings import Settings
from tests.conftest import Database
from tests.integration.line import OTHER, USER, Line, user
from tests.integration.marks import stored
from tests.integration.play import ADD, Session


@pytest.mark.parametrize("isolation", list(IsolationLevel))
async def test_the_isolation_of_the_writer_changes_nothing(
    installation: Database, line: Line, isolation: IsolationLevel
) -> None:
    async with installation.connect() as early, installation.connect() as late:
        await early.set_isolation_level(isolation)
        async with early.transaction():
            await early.execute("SELECT count(*) FROM user_credits")
            await late.execute(ADD, [OTHER, 6])
            await line.settle()
            await early.execute(ADD, [USER, 5])
            assert await line.settle() == []
        assert [total.user_id for total in await line.settle()] == [USER]


async def test_serializable_writers_do_not_fail_because_of_us(installation: Database, line: Line) -> None:
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(installation.connect()) for _ in range(4)]
        for number, session in enumerate(sessions):
            await session.set_isolation_level(IsolationLevel.SERIALIZABLE)
            await session.execute("BEGIN")
            await session.execute(ADD, [user(number), 1])
        await line.settle()
        for session in sessions:
            await session.execute("COMMIT")
        await line.settle()
        assert len(await stored(line)) == 4


async def test_a_prepared_transaction_is_read_when_it_is_committed(
    installation: Database, settings: Settings, application: Session
) -> None:
    # Nobody sleeps here, so nobody is rung: a NOTIFY would forbid it.
    async with Line.settled(settings) as line:
        await application.execute("BEGIN")
        await application.execute(ADD, [USER, 5])
        await application.execute("PREPARE TRANSACTION 'later'")
        await application.execute(ADD, [OTHER, 6])
        await line.settle()
        await line.change_reader.save()
        assert await stored(line) == {OTHER: 6}
    async with Line.opened(settings) as line:
        assert await line.settle() == []
        await application.execute("COMMIT PREPARED 'later'")
        await line.settle()
        assert await stored(line) == {USER: 5, OTHER: 6}
