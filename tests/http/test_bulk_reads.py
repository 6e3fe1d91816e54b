"""Many users' totals at once: for servers, in the order asked, within bounds."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from creditsd.config.http_settings import HttpSettings
from creditsd.domain.errors import RowsError
from creditsd.http import bulk_reads
from creditsd.http.hub import Current
from creditsd.http.server import LONGEST_BODY_BYTES, Timings
from tests.http.asking import KEY, ONE, SECRET, TWO, Asking, Shelf, bearer, counted, http, served, token

ALL = "/v1/credits"


def numbered(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012}"


async def asked(client: Asking, body: Any, credential: str = KEY) -> Any:
    return await client.post(ALL, body, credential)


async def test_the_totals_come_in_the_order_asked_for_and_nobody_unknown_is_missing() -> None:
    shelf = Shelf()
    shelf.put(ONE, 41, credits=7)
    shelf.put(TWO, 42, credits=8)
    async with served(shelf) as (_, client):
        answer = await asked(client, {"user_ids": [TWO.upper(), numbered(9), ONE]})
        assert (answer.status, answer.body["success"]) == (200, True)
        assert [(each["user_id"], each["credits"]) for each in answer.body["data"]] == [
            (TWO, 8), (numbered(9), 0), (ONE, 7)
        ]  # fmt: skip
        assert answer.body["data"][1] == (await client.read(numbered(9), KEY)).body["data"]
        assert (await asked(client, {"user_ids": []})).body == {"success": True, "data": []}


class Torn(Shelf):
    """A shelf on which one user's rows cannot be summed up."""

    async def read(self, user_id: str) -> Current | None:
        if user_id == TWO:
            raise RowsError("their sum is beyond numeric", TWO)
        return await super().read(user_id)


async def test_who_cannot_be_summed_up_is_told_so_and_the_others_have_their_totals() -> None:
    shelf = Torn()
    shelf.put(ONE, 41, credits=7)
    async with served(shelf) as (_, client):
        answer = await asked(client, {"user_ids": [numbered(9), TWO, ONE]})
        assert (answer.status, answer.body["success"]) == (200, True)
        nobody, torn, one = answer.body["data"]
        assert (nobody["user_id"], nobody["credits"], one["credits"]) == (numbered(9), 0, 7)
        assert torn == {"user_id": TWO, "error": "this user's credits cannot be summed up: see creditsd's log"}


async def test_as_many_as_are_allowed_are_read_and_one_more_is_refused() -> None:
    ids = [numbered(number) for number in range(bulk_reads.MOST_USERS + 1)]
    async with served(Shelf()) as (_, client):
        answer = await asked(client, {"user_ids": ids[:-1]})
        assert [each["user_id"] for each in answer.body["data"]] == ids[:-1]
        refused = await asked(client, {"user_ids": ids})
        assert (refused.status, refused.error) == (400, "user_ids names 1001 users: ask for 1000 at most")


SAY_WHOSE = 'say whose: {"user_ids": ["…", …]}, up to 1000 of them'


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", f"the body is no JSON: {SAY_WHOSE}"),
        (b'{"user_ids": [', f"the body is no JSON: {SAY_WHOSE}"),
        (b"\xff", f"the body is no JSON: {SAY_WHOSE}"),
        (b"[]", SAY_WHOSE),
        (b"{}", SAY_WHOSE),
        (b"null", SAY_WHOSE),
        (b'{"user_ids": null}', SAY_WHOSE),
        (b'{"user_ids": "a"}', SAY_WHOSE),
        (b'{"user_ids": {}}', SAY_WHOSE),
        (b'{"user_ids": [], "min_version": 3}', SAY_WHOSE),
        (json.dumps({"user_ids": [ONE, 7]}).encode(), "user_ids[1] must be text, in quotes"),
        (json.dumps({"user_ids": [None]}).encode(), "user_ids[0] must be text, in quotes"),
        (
            json.dumps({"user_ids": [ONE, "no uuid"]}).encode(),
            "user_ids[1]: 'no uuid' is not a user's id here: the table's are uuid",
        ),
        (
            json.dumps({"user_ids": [TWO, ONE, numbered(2)]}).encode(),
            "user_ids[2] is the user of user_ids[0]: name each once",
        ),
    ],
)
async def test_what_names_no_users_is_refused_in_one_line(body: bytes, says: str) -> None:
    async with served(Shelf()) as (_, client):
        answer = await client.send(ALL, body, KEY)
        assert (answer.status, answer.error) == (400, says)


async def test_one_user_in_two_spellings_is_named_twice() -> None:
    async with served(Shelf()) as (_, client):
        answer = await asked(client, {"user_ids": [numbered(10), numbered(10).replace("-", "")]})
        assert (answer.status, answer.error) == (400, "user_ids[1] is the user of user_ids[0]: name each once")


async def test_a_body_is_bounded_and_must_arrive() -> None:
    hasty = Timings(bulk_reads=bulk_reads.Timings(body_seconds=0.05))
    async with served(Shelf(), timings=hasty) as (_, client):
        most = await client.send(ALL, b'{"user_ids": []}'.ljust(LONGEST_BODY_BYTES), KEY)
        assert most.status == 200
        answer = await client.send(ALL, b" " * (LONGEST_BODY_BYTES + 1), KEY)
        assert (answer.status, answer.error) == (413, f"a body has {LONGEST_BODY_BYTES} bytes at most")
        late = await client.promise(ALL, KEY)
        assert late.startswith(b"HTTP/1.1 408 ")
        assert b"the body did not arrive in time" in late


async def test_it_is_for_servers_alone() -> None:
    body = {"user_ids": [ONE]}
    async with served(Shelf()) as (_, client):
        user = await asked(client, body, token())
        assert (user.status, "a user's token opens /v1/me/credits" in user.error) == (403, True)
        assert (await asked(client, body, "another key")).status == 401
        assert (await client.get(ALL, "POST")).status == 401
        assert (await client.get(ALL, **bearer(KEY))).status == 405
    async with served(Shelf(), api_keys=[], jwt_secret=SECRET) as (_, client):
        user = await asked(client, body, token())
        assert (user.status, user.error) == (403, "no server may ask here: set CREDITSD_HTTP__API_KEYS")


@pytest.mark.parametrize(("users", "seconds"), [(1, 100), (10, 100), (11, 200), (1000, 10_000)])
async def test_users_of_one_answer_count_for_the_servers_limit_and_never_lock_it_out(users: int, seconds: int) -> None:
    ids = [numbered(number) for number in range(users)]
    async with served(Shelf(), requests_per_second_per_server=0.01) as (surface, client):
        assert (await asked(client, {"user_ids": ids})).status == 200  # however many may come at once
        refused = await asked(client, {"user_ids": ids[:1]})
        assert refused.status == 429
        assert seconds - 90 <= int(refused.headers["Retry-After"]) <= seconds
        assert counted(surface, "http_limited", by="caller") == 1


async def test_a_server_without_a_limit_owes_nothing() -> None:
    ids = [numbered(number) for number in range(1000)]
    async with served(Shelf(), requests_per_second_per_server=0) as (_, client):
        assert {(await asked(client, {"user_ids": ids})).status for _ in range(5)} == {200}


async def test_what_is_not_found_in_time_is_to_be_asked_again() -> None:
    shelf = Shelf()
    shelf.readable.clear()
    hasty = Timings(bulk_reads=bulk_reads.Timings(answer_seconds=0.05))
    async with served(shelf, timings=hasty) as (_, client):
        late = await asked(client, {"user_ids": [ONE]})
        assert (late.status, late.headers["Retry-After"]) == (503, "1")
        assert late.error == "the totals were not found in time: try again, or ask for fewer users"
        shelf.readable.set()
        assert (await asked(client, {"user_ids": [ONE]})).status == 200


async def test_one_server_lets_a_bounded_number_wait_and_all_together_as_well() -> None:
    shelf = Shelf()
    shelf.readable.clear()
    names = [f"server {number}, with a long enough key" for number in range(9)]
    servers = [{"name": f"s{number}", "key": name} for number, name in enumerate(names)]
    body = {"user_ids": [ONE]}
    async with served(shelf, servers=servers, requests_per_second_per_server=0) as (_, client):
        waiting: set[asyncio.Task[Any]] = set()
        for name in names[:8]:
            waiting |= {asyncio.create_task(asked(client, body, name)) for _ in range(bulk_reads.MOST_OF_ONE + 1)}
            (done,), waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            refused = await done
            assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
            assert refused.error == "8 such requests of yours wait: send the next then"
        refused = await asked(client, body, names[8])
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert refused.error == "too many ask for many users at once: try again"
        assert len(waiting) == bulk_reads.MOST_AT_ONCE
        shelf.readable.set()
        assert {(await each).status for each in waiting} == {200}
        assert (await asked(client, body, names[8])).status == 200


async def test_a_server_whose_key_was_taken_away_while_it_waits_is_told_nothing() -> None:
    shelf = Shelf()
    shelf.readable.clear()
    async with served(shelf) as (surface, client):
        answer = asyncio.create_task(asked(client, {"user_ids": [ONE]}))
        await shelf.reading.wait()
        await surface.follow(HttpSettings.model_validate(http(api_keys=["another key of a server"])))
        shelf.readable.set()
        refused = await answer
        assert refused.status == 401
        assert refused.error == "this key or token is accepted here no more: get another"


async def test_a_page_may_ask_before_it_asks() -> None:
    async with served(Shelf(), cors_origins=["https://app.example.com"]) as (_, client):
        answer = await client.get(
            ALL, "OPTIONS", Origin="https://app.example.com", Access_Control_Request_Method="POST"
        )
        assert (answer.status, "POST" in answer.headers["Access-Control-Allow-Methods"]) == (204, True)
