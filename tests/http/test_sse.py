"""Streams as clients see them: what comes, in which order, and how they end."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any
from urllib.parse import quote

import pytest

from creditsd.domain.total import Total
from creditsd.http.server import HttpServer
from tests.conftest import eventually
from tests.http.asking import KEY, ONE, TWO, Shelf, bearer, counted, served, token

ME = "/v1/me/credits/stream"


async def open_streams(count: int, surface: HttpServer) -> None:
    """Wait until so many streams are open."""

    async def now() -> int:
        return counted(surface, "streams_open")

    await eventually(now, lambda found: found == count)


async def test_the_wire_is_as_documented() -> None:
    shelf = Shelf()
    shelf.put(ONE, 41, credits=5)
    async with served(shelf) as (_, client), client.stream(ME, token(), Accept_Encoding="gzip, br") as stream:
        headers = stream.response.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert headers["Cache-Control"] == "no-cache, no-transform"
        assert headers["X-Accel-Buffering"] == "no"
        assert "Content-Encoding" not in headers
        await stream.until(41)
        shelf.put(ONE, 42, credits=6)
        await stream.until(42)
        shelf.hub.close()
        assert await stream.farewell() == "shutdown"
    head, tail = stream.raw.split(b"retry: ", 2)[1:]
    assert head == (
        b"1000\n\n"
        b'id: 41\ndata: {"user_id": "%b", "version": 41, "credits": 5}\n\n'
        b'id: 42\ndata: {"user_id": "%b", "version": 42, "credits": 6}\n\n' % (ONE.encode(), ONE.encode())
    )
    retry, rest = tail.split(b"\n", 1)
    assert 1000 <= int(retry) <= 5000
    assert rest == b'event: close\ndata: {"reason":"shutdown"}\n\n'


BREAKING = "a\n\nid: 99\nevent: close\ndata: {}\r\rretry: 1\r\n\r\n\u2028\u2029\x85\0</script>"


async def test_nothing_in_a_total_or_an_id_begins_a_line_of_the_stream() -> None:
    shelf = Shelf("text")
    user_id = BREAKING.replace("\0", "")  # which PostgreSQL has in no text
    path = f"/v1/users/{quote(user_id, safe='')}/credits/stream"
    async with served(shelf) as (_, client), client.stream(path, KEY) as stream:
        assert (await stream.total())["user_id"] == user_id
        given = Total.nothing(user_id)._replace(version=7, membership=BREAKING, subscription_id=BREAKING)
        shelf.totals[user_id] = (7, given.json())
        shelf.hub.offer(user_id, *shelf.totals[user_id])
        told = await stream.total()
        assert (told["version"], told["user_id"]) == (7, user_id)
        assert told["membership"] == told["subscription_id"] == BREAKING
        shelf.hub.close()
        assert await stream.farewell() == "shutdown"
    fields = [line.partition(b":")[0].decode() for line in re.split(rb"\r\n|\r|\n", stream.raw) if line]
    assert fields == ["retry", "id", "data", "id", "data", "retry", "event", "data"]


async def test_somebody_nobody_has_heard_of_gets_zero_and_then_the_first_total() -> None:
    shelf = Shelf()
    async with served(shelf) as (_, client), client.stream(ME, token()) as stream:
        nothing = await stream.total()
        assert (nothing["version"], nothing["credits"], nothing["membershipStatus"]) == (0, 0, "none")
        shelf.put(ONE, 1)
        assert await stream.until(1) == [1]


async def test_a_client_that_returns_is_not_told_what_it_knows() -> None:
    shelf = Shelf()
    now = int(time.time() * 1_000_000)
    shelf.put(ONE, now)
    async with served(shelf, heartbeat_seconds=0.05) as (_, client):
        for known in (now, now + 5):
            async with client.stream(ME, token(), Last_Event_ID=str(known)) as stream:
                assert await stream.block() == {"retry": "1000"}
                assert await stream.block() == {"": ""}, "a heartbeat and no total"
                shelf.put(ONE, now + 5)
                shelf.put(ONE, now + 6)
                assert await stream.until(now + 6) in ([now + 6], [now + 5, now + 6])
                shelf.put(ONE, now)
            shelf.totals[ONE] = (now, json.dumps({"version": now}).encode())
        for text in (now - 1, 0, -1, "", "x", "1e9", "٣", now * 1000, 10**18, "9" * 40):
            async with client.stream(ME, token(), Last_Event_ID=str(text)) as stream:
                assert (await stream.total())["version"] == now, text


async def test_a_total_that_is_older_or_the_same_is_not_told() -> None:
    shelf = Shelf()
    shelf.put(ONE, 5)
    async with served(shelf) as (_, client), client.stream(ME, token()) as stream:
        assert await stream.until(5) == [5]
        for version in (5, 4, 3):
            shelf.put(ONE, version)
        shelf.put(ONE, 6)
        assert await stream.until(6) == [6]


async def test_silence_is_broken_by_heartbeats() -> None:
    async with served(Shelf(), heartbeat_seconds=0.05) as (surface, client), client.stream(ME, token()) as stream:
        await stream.total()
        assert [await stream.block() for _ in range(3)] == [{"": ""}] * 3
        assert counted(surface, "stream_heartbeats") >= 3


async def test_a_stream_ends_with_its_token() -> None:
    shelf = Shelf()
    async with served(shelf, jwt_leeway_seconds=0) as (surface, client):
        ends = int(time.time()) + 3
        async with client.stream(ME, token(exp=ends)) as stream:
            await stream.total()
            assert await stream.farewell() == "token_expired"
            assert time.time() >= ends
        await open_streams(0, surface)
        assert counted(surface, "streams_closed", reason="token_expired") == 1


async def test_no_total_is_told_once_its_token_has_expired_however_late_its_end_is_noticed() -> None:
    shelf = Shelf()
    async with served(shelf, jwt_leeway_seconds=0) as (surface, client):
        ends = int(time.time()) + 2
        async with client.stream(ME, token(exp=ends)) as stream:
            await stream.total()
            await open_streams(1, surface)
            while time.time() < ends:  # the process is busy elsewhere, and its clocks do not go off
                pass
            shelf.put(ONE, 1)
            assert await stream.farewell() == "token_expired"
    assert b"id: 1\n" not in stream.raw


async def test_news_put_the_heartbeat_off() -> None:
    shelf = Shelf()
    async with served(shelf, heartbeat_seconds=3600) as (surface, client), client.stream(ME, token()) as stream:
        await stream.total()
        for version in range(1, 6):
            shelf.put(ONE, version)
            assert await stream.until(version) == [version]
        assert counted(surface, "stream_totals") == 6
        assert counted(surface, "stream_heartbeats") == 0


async def test_a_client_of_http_1_0_gets_a_stream_without_chunks() -> None:
    shelf = Shelf()
    async with served(shelf) as (surface, _), asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", surface.port)
        sent = bearer(token())["Authorization"]
        writer.write(f"GET {ME} HTTP/1.0\r\nAuthorization: {sent}\r\n\r\n".encode())
        await reader.readuntil(b"retry: 1000\n\nid: 0\ndata: ")
        await reader.readuntil(b"}\n\n")
        shelf.put(ONE, 1, credits=7)
        assert await reader.readuntil(b"}\n\n") == b'id: 1\ndata: {"user_id": "%b", "version": 1, "credits": 7}\n\n' % (
            ONE.encode()
        )
        shelf.hub.close()
        assert (await reader.read()).endswith(b'event: close\ndata: {"reason":"shutdown"}\n\n')
        writer.close()


async def test_a_stream_of_a_server_does_not_end_by_time() -> None:
    shelf = Shelf()
    path = f"/v1/users/{ONE}/credits/stream"
    async with served(shelf, heartbeat_seconds=0.05) as (_, client), client.stream(path, KEY) as stream:
        await stream.total()
        assert [await stream.block() for _ in range(5)] == [{"": ""}] * 5


async def test_one_more_stream_of_a_user_replaces_the_oldest() -> None:
    shelf = Shelf()
    async with served(shelf, max_streams_per_user=2) as (surface, client):
        async with client.stream(ME, token()) as first, client.stream(ME, token()) as second:
            await first.total()
            await second.total()
            async with (
                client.stream(ME, token(TWO)) as other,
                client.stream(f"/v1/users/{ONE}/credits/stream", KEY) as servers,
                client.stream(ME, token()) as third,
            ):
                assert await first.farewell() == "replaced"
                shelf.put(ONE, 1)
                for stream in (second, third, servers):
                    assert (await stream.until(1))[-1] == 1
                shelf.put(TWO, 2)
                await other.until(2)
        await open_streams(0, surface)
        assert counted(surface, "streams_closed", reason="replaced") == 1


async def test_more_streams_than_there_is_place_for_are_503() -> None:
    async with served(Shelf(), max_streams=2) as (surface, client):
        async with client.stream(ME, token()), client.stream(ME, token(TWO)):
            refused = await client.get(ME, **bearer(token()))
            assert (refused.status, int(refused.headers["Retry-After"]) >= 1) == (503, True)
            assert "http.max_streams" in refused.error
            assert (await client.get("/v1/me/credits", **bearer(token()))).status == 200
        await open_streams(0, surface)
        async with client.stream(ME, token()) as stream:
            await stream.total()


async def test_a_client_that_leaves_is_noticed_at_once() -> None:
    shelf = Shelf()
    async with served(shelf, heartbeat_seconds=3600) as (surface, client):
        async with client.stream(ME, token()) as stream:
            await stream.total()
            assert counted(surface, "streams_open") == 1
        await open_streams(0, surface)
        assert not shelf.hub.users
        assert counted(surface, "streams_closed") == counted(surface, "streams_closed", reason="gone") == 1


async def test_an_ending_process_says_so_and_takes_no_new_streams() -> None:
    shelf = Shelf()
    async with served(shelf) as (_, client), client.stream(ME, token()) as stream:
        await stream.total()
        shelf.hub.close()
        refused = await client.get(ME, **bearer(token(TWO)))
        assert (refused.status, "Retry-After" in refused.headers) == (503, True)
        assert await stream.farewell() == "shutdown"


async def test_many_streams_each_get_their_own_and_closing_is_quick() -> None:
    shelf = Shelf("bigint")
    users = [str(number) for number in range(1, 151)]
    limits: dict[str, Any] = {"requests_per_second_per_address": 0, "requests_per_second_per_caller": 0}
    async with served(shelf, **limits) as (surface, client):

        async def follow(user_id: str) -> bytes:
            async with client.stream(ME, token(user_id)) as stream:
                await stream.until(1000 + int(user_id))
                assert await stream.farewell() == "shutdown"
                return stream.raw

        following = [asyncio.create_task(follow(user_id)) for user_id in users]
        await open_streams(len(users), surface)
        for version in (0, 1000):
            for user_id in users:
                shelf.put(user_id, version + int(user_id), mine=f"<{user_id}>")

        async def sent() -> int:
            return counted(surface, "stream_totals")

        await eventually(sent, lambda messages: messages >= 2 * len(users))
        shelf.hub.close()
        for user_id, raw in zip(users, await asyncio.gather(*following), strict=True):
            assert {raw.count(b"<%b>" % other.encode()) for other in users if other != user_id} == {0}
            assert b"<%b>" % user_id.encode() in raw


@pytest.mark.parametrize("path", [ME, f"/v1/users/{ONE}/credits/stream"])
async def test_a_refusal_comes_before_the_stream_begins(path: str) -> None:
    async with served(Shelf()) as (surface, client):
        answer = await client.get(path, **bearer("wrong"))
        assert (answer.status, answer.headers["Content-Type"]) == (401, "application/json")
        assert counted(surface, "streams_open") == 0
