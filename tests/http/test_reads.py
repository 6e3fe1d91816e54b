"""Reads that wait for a version: whoever wrote reads what they wrote."""

from __future__ import annotations

import asyncio

import pytest

from creditsd.config.http_settings import HttpSettings
from creditsd.http import reads
from creditsd.http.hub import Current
from creditsd.http.server import HttpServer, Timings
from tests.conftest import eventually
from tests.http.asking import KEY, ONE, TWO, Shelf, bearer, counted, http, served, token

ME = "/v1/me/credits"
PATIENT = Timings(reads=reads.Timings(wait_seconds=3600))


async def listening(count: int, surface: HttpServer) -> None:
    """Wait until so many listen."""

    async def now() -> int:
        return counted(surface, "streams_open")

    await eventually(now, lambda found: found == count)


async def test_a_read_waits_for_its_version_or_a_newer_one() -> None:
    shelf = Shelf()
    shelf.put(ONE, 41)
    async with served(shelf, timings=PATIENT) as (surface, client):
        mine = asyncio.create_task(client.get(f"{ME}?min_version=43", **bearer(token())))
        servers = asyncio.create_task(client.get(f"/v1/users/{ONE}/credits?min_version=43", **bearer(KEY)))
        await listening(2, surface)
        shelf.put(TWO, 99)
        shelf.put(ONE, 42)
        assert not mine.done()
        assert not servers.done()
        shelf.put(ONE, 44, credits=7)
        for answer in (await mine, await servers):
            assert (answer.status, answer.body["data"]["version"], answer.body["data"]["credits"]) == (200, 44, 7)
        await listening(0, surface)
        assert not shelf.hub.users


async def test_who_waits_asks_the_source_nothing_meanwhile() -> None:
    asked: list[str] = []

    class Asked(Shelf):
        async def read(self, user_id: str) -> Current | None:
            asked.append(user_id)
            return await super().read(user_id)

    async def times() -> int:
        return len(asked)

    shelf = Asked()
    async with served(shelf, timings=PATIENT) as (surface, client):
        waiting = asyncio.create_task(client.get(f"{ME}?min_version=100", **bearer(token())))
        await listening(1, surface)
        await eventually(times, lambda found: found == 2)
        for version in range(1, 100):
            shelf.put(ONE, version)
            await asyncio.sleep(0)
        shelf.put(ONE, 100)
        assert (await waiting).body["data"]["version"] == 100
    assert len(asked) == 2


async def test_what_is_there_already_is_answered_at_once_and_nobody_listens() -> None:
    shelf = Shelf()
    shelf.put(ONE, 41)
    async with served(shelf, timings=PATIENT, max_streams=0) as (_, client):
        for version in (0, 40, 41):
            answer = await client.get(f"{ME}?min_version={version}", **bearer(token()))
            assert (answer.status, answer.body["data"]["version"]) == (200, 41)
    assert shelf.watched == []


async def test_a_version_that_does_not_come_is_answered_with_the_newest() -> None:
    shelf = Shelf()
    shelf.put(ONE, 41)
    async with served(shelf, timings=Timings(reads=reads.Timings(wait_seconds=0.05))) as (_, client):
        answer = await client.get(f"{ME}?min_version={2**63 - 1}", **bearer(token()))
        assert (answer.status, answer.body["data"]["version"]) == (200, 41)
        nobody = await client.get(f"{ME}?min_version=1", **bearer(token(TWO)))
        assert (nobody.status, nobody.body["data"]["version"]) == (200, 0)


@pytest.mark.parametrize("prefer", ["wait=0", "respond-async, WAIT = 0", 'foo=bar; x=1, wait="1"'])
async def test_who_prefers_to_wait_less_does(prefer: str) -> None:
    async with served(Shelf(), timings=PATIENT) as (_, client):
        async with asyncio.timeout(20):
            answer = await client.get(f"{ME}?min_version=5", Prefer=prefer, **bearer(token()))
        assert (answer.status, answer.body["data"]["version"]) == (200, 0)


@pytest.mark.parametrize("prefer", ["wait=99999", "wait=soon", "wait", "awaited=0", "wait=-1"])
async def test_nobody_waits_longer_than_the_bound(prefer: str) -> None:
    async with served(Shelf(), timings=Timings(reads=reads.Timings(wait_seconds=0.05))) as (_, client):
        async with asyncio.timeout(20):
            answer = await client.get(f"{ME}?min_version=5", Prefer=prefer, **bearer(token()))
        assert answer.status == 200


@pytest.mark.parametrize(
    "query", ["=", "=x", "=-1", "=1.5", "=1e3", "=%D9%A3", f"={2**63}", f"={'9' * 30}", "=1&min_version=2"]
)
async def test_what_is_no_version_is_400(query: str) -> None:
    async with served(Shelf()) as (_, client):
        refused = await client.get(f"{ME}?min_version{query}", **bearer(token()))
        assert (refused.status, "min_version" in refused.error) == (400, True)


async def test_who_waits_is_counted_with_the_streams() -> None:
    shelf = Shelf()
    async with served(shelf, timings=PATIENT, max_streams=1) as (surface, client):
        waiting = asyncio.create_task(client.get(f"{ME}?min_version=5", **bearer(token())))
        await listening(1, surface)
        for path in (f"{ME}?min_version=5", f"{ME}/stream"):
            refused = await client.get(path, **bearer(token(TWO)))
            assert (refused.status, "http.max_streams" in refused.error) == (503, True)
        assert (await client.get(ME, **bearer(token(TWO)))).status == 200
        shelf.put(ONE, 5)
        assert (await waiting).body["data"]["version"] == 5


async def test_one_more_of_a_user_answers_the_oldest_and_leaves_their_streams() -> None:
    shelf = Shelf()
    async with (
        served(shelf, timings=PATIENT, max_streams_per_user=1) as (surface, client),
        client.stream(f"{ME}/stream", token()) as stream,
    ):
        await stream.total()
        first = asyncio.create_task(client.get(f"{ME}?min_version=5", **bearer(token())))
        await listening(2, surface)
        second = asyncio.create_task(client.get(f"{ME}?min_version=5", **bearer(token())))
        assert ((await first).status, (await first).body["data"]["version"]) == (200, 0)
        shelf.put(ONE, 5)
        assert (await second).body["data"]["version"] == 5
        assert await stream.until(5) == [5]


async def test_who_leaves_while_waiting_is_noticed_and_an_ending_process_answers() -> None:
    shelf = Shelf()
    async with served(shelf, timings=PATIENT) as (surface, client):
        gone = asyncio.create_task(client.get(f"{ME}?min_version=5", **bearer(token())))
        await listening(1, surface)
        gone.cancel()
        await listening(0, surface)
        waiting = asyncio.create_task(client.get(f"{ME}?min_version=5", **bearer(token())))
        await listening(1, surface)
        shelf.hub.close()
        assert (await waiting).status == 200


async def test_who_waits_is_refused_once_their_key_is_taken_away_and_the_others_wait_on() -> None:
    shelf = Shelf()
    async with served(shelf, timings=PATIENT) as (surface, client):
        servers = asyncio.create_task(client.get(f"/v1/users/{ONE}/credits?min_version=5", **bearer(KEY)))
        mine = asyncio.create_task(client.get(f"{ME}?min_version=5", **bearer(token())))
        await listening(2, surface)
        await surface.follow(HttpSettings.model_validate(http(api_keys=["another key of a server"])))
        refused = await servers
        assert (refused.status, "no more" in refused.error) == (401, True)
        assert "invalid_token" in refused.headers["WWW-Authenticate"]
        assert not mine.done()
        shelf.put(ONE, 5)
        assert (await mine).status == 200
