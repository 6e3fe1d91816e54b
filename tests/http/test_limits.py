"""How much servers may ask: each key by its own limit, which neither its address nor another key uses up."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from creditsd.config.http_settings import HttpSettings
from tests.http.asking import KEY, ONE, Asking, Shelf, counted, http, served, token

BILLING, REPORTS = "the key of billing, long enough", "the key of reports, long enough"


def servers(**rates: float | None) -> list[dict[str, Any]]:
    keys = {"billing": BILLING, "reports": REPORTS}
    return [{"name": name, "key": keys[name], "requests_per_second": rate} for name, rate in rates.items()]


async def statuses(client: Asking, credential: str, count: int = 20) -> list[int]:
    return [(await client.read(ONE, credential)).status for _ in range(count)]


async def test_a_server_is_not_one_caller_of_a_users_rate_nor_one_address() -> None:
    settings: dict[str, Any] = {"requests_per_second_per_caller": 1, "requests_per_second_per_address": 1}
    async with served(Shelf(), servers=servers(billing=None), **settings) as (_, client):
        assert set(await statuses(client, KEY)) == {200}
        assert set(await statuses(client, BILLING)) == {200}
        assert 429 in await statuses(client, token())


async def test_each_key_has_a_limit_of_its_own() -> None:
    named = servers(billing=1, reports=0)
    async with served(Shelf(), servers=named, requests_per_second_per_server=2) as (surface, client):
        limited = await statuses(client, BILLING)
        assert limited[:2] == [200, 200]
        assert 429 in limited
        answer = await client.read(ONE, BILLING)
        assert (answer.status, int(answer.headers["Retry-After"]) >= 1) == (429, True)
        assert set(await statuses(client, REPORTS, 100)) == {200}
        plain = await statuses(client, KEY)
        assert plain[:4] == [200] * 4
        assert 429 in plain
        assert counted(surface, "http_limited", by="address") == 0


async def test_a_named_server_is_known_by_its_key_or_digest_in_either_header() -> None:
    digest = "sha256:" + hashlib.sha256(BILLING.encode()).hexdigest()
    async with served(Shelf(), api_keys=[], servers=[{"name": "billing", "key": digest}]) as (_, client):
        assert await statuses(client, BILLING, 1) == [200]
        assert (await client.get(f"/v1/users/{ONE}/credits", X_API_Key=BILLING)).status == 200
        assert await statuses(client, digest, 1) == [401]
        assert await statuses(client, "billing", 1) == [401]


async def test_a_key_that_is_guessed_counts_for_its_address() -> None:
    async with served(Shelf(), requests_per_second_per_address=1, servers=servers(billing=None)) as (_, client):
        assert 429 in await statuses(client, "a guess", 10)
        assert await statuses(client, BILLING, 1) == [200]
        both = await client.get("/v1/me/credits", X_API_Key="a guess", Authorization=f"Bearer {BILLING}")
        assert both.status == 429


async def test_other_servers_and_limits_are_taken_while_it_runs_and_what_was_used_stays_used() -> None:
    async with served(Shelf(), servers=servers(billing=1), requests_per_second_per_address=0) as (surface, client):
        assert 429 in await statuses(client, BILLING)
        kept = http(servers=servers(billing=1, reports=0), requests_per_second_per_address=0)
        await surface.follow(HttpSettings.model_validate(kept))
        assert (await client.read(ONE, BILLING)).status == 429, "a reload gives nobody more"
        assert set(await statuses(client, REPORTS)) == {200}
        wider = http(servers=servers(billing=0), requests_per_second_per_address=0)
        await surface.follow(HttpSettings.model_validate(wider))
        assert set(await statuses(client, BILLING)) == {200}
        assert await statuses(client, REPORTS, 1) == [401]


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ([{"name": "a", "key": ""}], "at least 1 character"),
        ([{"name": "a", "key": "sha256:12"}], "the 64 hexadecimal digits"),
        ([{"name": "", "key": "k"}], "must be letters, digits"),
        ([{"name": "a"}], "Field required"),
        ([{"key": "k"}], "Field required"),
        ([{"name": "a", "key": "k", "requests_per_second": -1}], "greater than or equal to 0"),
        ([{"name": "a", "key": "k", "requests_per_second": "inf"}], "finite"),
        ([{"name": "a", "key": "k", "rate": 1}], "Extra inputs are not permitted"),
        (["k"], "valid dictionary"),
        ([{"name": "a", "key": "k"}, {"name": "a", "key": "l"}], "two of http.servers are called 'a'"),
        ([{"name": "a", "key": "k"}, {"name": "b", "key": "k"}], "the key of http.servers 'b' is another's too"),
        ([{"name": "a", "key": KEY}], "the key of http.servers 'a' is another's too"),
        (
            [{"name": "a", "key": "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()}],
            "the key of http.servers 'a' is another's too",
        ),
    ],
)
def test_what_is_wrong_with_a_server_is_said_without_its_key(found: Any, line: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        HttpSettings.model_validate({"servers": found, "api_keys": [KEY]})
    assert line in str(refusal.value)
    assert KEY not in str(refusal.value)


async def test_a_short_key_of_a_server_is_warned_of_and_not_shown() -> None:
    with capture_logs() as logs:
        async with served(Shelf(), servers=[{"name": "billing", "key": "opensesame"}]):
            pass
    assert "access.key_found_short" in [each["event"] for each in logs]
    assert "opensesame" not in json.dumps(logs, default=str)
