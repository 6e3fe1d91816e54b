"""Many who ask at once share a query, and nobody suffers for another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from creditsd.config.settings import Settings
from creditsd.domain.errors import DatabaseUnavailable, InputError, RowsError, SchemaError
from creditsd.http import read_batcher
from creditsd.http.read_batcher import ReadBatcher
from creditsd.postgres import sql_files
from creditsd.postgres.batches import Batch, batch
from creditsd.postgres.connections import Connection, pool
from tests.conftest import SERVERS, Database
from tests.integration.line import Line, user

pytestmark = pytest.mark.parametrize("postgres_server", SERVERS[:1], indirect=True)

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"


@asynccontextmanager
async def looking(settings: Settings, *, workers: int = 1) -> AsyncIterator[ReadBatcher]:
    async with pool(settings.dsn, purpose="reader", max_size=2) as connections:
        batcher = ReadBatcher(connections, settings.policy)
        batcher.user_id_type = "uuid"
        tasks = [asyncio.create_task(batcher.run()) for _ in range(workers)]
        try:
            yield batcher
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_everyone_gets_their_own_total_stored_or_computed(installation: Database, settings: Settings) -> None:
    for number in range(1, 5):
        installation.run(ADD, [user(number), number])
    async with Line.settled(settings) as line:
        stored = await line.stored()
    installation.run("DELETE FROM creditsd.balances WHERE user_id = %s", [user(2)])
    asked = [user(number) for number in range(1200)]
    async with looking(settings, workers=2) as batcher:
        found = await asyncio.gather(*(batcher.read(each) for each in asked), *(batcher.read(each) for each in asked))
    for user_id, current in zip([*asked, *asked], found, strict=True):
        assert current is not None
        version, document = current
        total = json.loads(document)
        assert (total["user_id"], total["version"]) == (user_id, version)
        assert total["credits"] == stored.get(user_id, 0)
        assert (version > 0) == (user_id in stored and user_id != user(2))


async def test_many_are_read_in_one_query_and_those_without_a_total_in_another(
    installation: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 5):
        installation.run(ADD, [user(number), number])
    async with Line.settled(settings):
        pass
    installation.run(ADD, [user(9), 9])
    asked = [user(number) for number in (3, 1, 9, 77, 2)]
    queries: list[str] = []
    async with looking(settings) as batcher:

        async def told(*ids: str) -> list[tuple[str, int]]:
            found = [each for each in await batcher.read_many(ids) if each and not isinstance(each, RowsError)]
            totals = [json.loads(document) for _, document in found]
            assert [version > 0 for version, _ in found] == [total["version"] > 0 for total in totals]
            return [(total["user_id"], total["credits"]) for total in totals]

        assert await told(*asked) == list(zip(asked, (3, 1, 9, 0, 2), strict=True))
        assert await told() == []

        async def noted(connection: Connection, query: str, values: Mapping[str, object]) -> Batch:
            queries.append(query)
            return await batch(connection, query, values)

        monkeypatch.setattr(read_batcher, "batch", noted)
        await told(user(4), user(3))
        assert queries == [sql_files.sql("queries/balances_of")]
        queries.clear()
        await told(user(4), user(77), user(9))
        assert queries == [sql_files.sql("queries/balances_of"), sql_files.sql("queries/totals_now")]


async def test_of_one_whose_rows_cannot_be_summed_up_it_says_so_and_the_others_are_read(
    installation: Database, settings: Settings
) -> None:
    installation.run("ALTER TABLE user_credits ALTER credits TYPE numeric")
    for _ in range(2):
        installation.run(
            "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, repeat('9', 131072)::numeric, 'active')",
            [user(3)],
        )
    asked = [user(number) for number in range(1, 8)]
    async with looking(settings) as batcher:
        found = await batcher.read_many(asked)
    told = {user_id for user_id, each in zip(asked, found, strict=True) if each and not isinstance(each, RowsError)}
    assert told == set(asked) - {user(3)}
    why = found[2]
    assert isinstance(why, RowsError)
    assert why.user_id == user(3)


async def test_a_read_begins_after_it_was_asked_for(installation: Database, settings: Settings) -> None:
    installation.run(ADD, [user(1), 1])
    async with looking(settings) as batcher, Line.settled(settings) as line:
        for amount in range(2, 30):
            installation.run(ADD, [user(1), 1])
            under_way = [asyncio.create_task(batcher.read(user(1))) for _ in range(3)]
            await asyncio.sleep(0)
            await line.settle()
            current = await batcher.read(user(1))
            assert current is not None
            assert json.loads(current[1])["credits"] == amount
            await asyncio.gather(*under_way)


async def test_an_id_that_is_none_is_refused_alone(installation: Database, settings: Settings) -> None:
    async with looking(settings) as batcher:
        good, bad, other = await asyncio.gather(
            batcher.read(user(1)), batcher.read("no uuid"), batcher.read(user(2)), return_exceptions=True
        )
        assert isinstance(bad, InputError)
        assert isinstance(good, tuple)
        assert isinstance(other, tuple)


async def test_who_gives_up_takes_nobody_along(installation: Database, settings: Settings) -> None:
    async with looking(settings) as batcher:
        impatient = asyncio.create_task(batcher.read(user(1)))
        patient = asyncio.create_task(batcher.read(user(1)))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await patient is not None


async def test_what_the_database_lacks_is_told_to_each_who_asked_and_the_next_is_answered(
    installation: Database, settings: Settings
) -> None:
    async with looking(settings) as batcher:
        installation.run("ALTER TABLE creditsd.balances RENAME TO elsewhere")
        try:
            told = await asyncio.gather(batcher.read(user(1)), batcher.read(user(2)), return_exceptions=True)
        finally:
            installation.run("ALTER TABLE creditsd.elsewhere RENAME TO balances")
        assert [type(each) for each in told] == [SchemaError, SchemaError]
        assert await batcher.read(user(1)) is not None


async def test_an_end_is_told_to_who_still_waits_and_to_who_comes_later(
    installation: Database, settings: Settings
) -> None:
    async with looking(settings) as batcher, installation.connect(autocommit=False) as other:
        await other.execute("LOCK TABLE creditsd.balances IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(batcher.read(user(1)))
        await asyncio.sleep(0)
    with pytest.raises(DatabaseUnavailable):
        await waiting
    with pytest.raises(DatabaseUnavailable):
        await batcher.read(user(1))
