"""What a token says of its user: which claim names them, whom it was given to, and what it is told that it lacks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from pydantic import ValidationError

from creditsd.config.http_settings import HttpSettings
from tests.http.asking import ONE, SECRET, TWO, Asking, Shelf, bearer, served, token

ME = "/v1/me/credits"


async def read_by(client: Asking, **claims: Any) -> tuple[int, str]:
    """Ask with a token; return the status, and whose total came or what was wrong."""
    answer = await client.get(ME, **bearer(token("person", **claims)))
    return answer.status, answer.body["data"]["user_id"] if answer.status == 200 else answer.error


@pytest.mark.parametrize(
    ("claim", "claims"),
    [
        ("org_id", {"org_id": ONE}),
        ("external_id", {"external_id": ONE.upper(), "org_id": TWO}),
        ("app_metadata.org", {"app_metadata": {"org": ONE, "sub": TWO}, "org": TWO, "app_metadata.org": TWO}),
        ("https://example.com/org.id", {"https://example.com/org.id": ONE, "https://example": {"com/org": TWO}}),
        ("a.b.c.d", {"a": {"b": {"c": {"d": ONE}}}}),
    ],
)
async def test_the_claim_that_is_named_is_the_user_and_no_other_is(claim: str, claims: dict[str, Any]) -> None:
    async with served(Shelf(), jwt_user_claim=claim) as (_, client):
        assert await read_by(client, **claims) == (200, ONE)
        assert (await client.read(TWO, token("person", **claims))).status == 403
        assert await read_by(client, other=ONE) == (401, f"the token has no claim {claim}")
    async with served(Shelf()) as (_, client):
        answer = await client.get(ME, **bearer(token("person", **claims)))
        assert (answer.status, "sub is none of our users" in answer.error) == (403, True)


@pytest.mark.parametrize("found", [{"org": ONE}, [ONE], True, 1.5, "", False])
async def test_a_claim_that_is_no_id_is_nobody(found: Any) -> None:
    async with served(Shelf("text"), jwt_user_claim="org_id") as (_, client):
        status, line = await read_by(client, org_id=found)
        assert (status, line) == (401, "the token's claim org_id is no user's id: it must be text or a whole number")


@pytest.mark.parametrize("found", [ONE, [{"org": ONE}], 5, None, {"ORG": ONE}, {"org ": ONE}])
async def test_a_path_leads_through_objects_alone(found: Any) -> None:
    async with served(Shelf(), jwt_user_claim="app_metadata.org") as (_, client):
        assert await read_by(client, app_metadata=found) == (401, "the token has no claim app_metadata.org")


async def test_a_text_id_is_matched_as_it_is_stored() -> None:
    shelf = Shelf("text")
    async with served(shelf, jwt_user_claim="org_id") as (_, client):
        for number, org in enumerate(
            ("org_1", " org_1", "org_1 ", "ORG_1", "org_1\n", "17", "017", "\u00f6", "o\u0308"), 1
        ):
            shelf.put(org, number)
            assert await read_by(client, org_id=org) == (200, org)
            answer = await client.get(ME, **bearer(token("person", org_id=org)))
            assert answer.body["data"]["version"] == number
        assert await read_by(client, org_id=17) == (200, "17")
        for broken in ("x" * 2601, "a\0b", "\ud800"):
            assert (await read_by(client, org_id=broken))[0] == 403


async def test_the_members_of_one_organization_have_limits_of_their_own() -> None:
    members = [token(f"member {number}", org_id=ONE) for number in range(2)]
    settings: dict[str, Any] = {"jwt_user_claim": "org_id", "max_streams_per_user": 1}
    async with served(Shelf(), requests_per_second_per_caller=1, **settings) as (_, client):
        first = [(await client.get(ME, **bearer(members[0]))).status for _ in range(10)]
        assert 429 in first
        assert (await client.get(ME, **bearer(members[1]))).status == 200
    shelf = Shelf()
    async with (
        served(shelf, **settings) as (_, client),
        client.stream("/v1/me/credits/stream", members[0]) as one,
        client.stream("/v1/me/credits/stream", members[1]) as other,
    ):
        shelf.put(ONE, 9)
        assert (await one.until(9))[-1] == (await other.until(9))[-1] == 9


PARTY = "the token has the wrong authorized party: its azp is none of http.jwt_authorized_parties"

LACKING: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "expired": (lambda: {"exp": int(time.time()) - 60}, "the token has expired: sign in again"),
    "no end": (lambda: {"exp": None}, "the token has no claim exp"),
    "early": (lambda: {"nbf": int(time.time()) + 60}, "the token is not valid yet: compare the clocks"),
    "audience": (lambda: {"aud": "x"}, "the token has the wrong audience: its aud is not http.jwt_audience"),
    "no audience": (lambda: {"aud": None}, "the token has no claim aud"),
    "issuer": (lambda: {"iss": "x"}, "the token has the wrong issuer: its iss is not http.jwt_issuer"),
    "no issuer": (lambda: {"iss": None}, "the token has no claim iss"),
    "party": (lambda: {"azp": "x"}, PARTY),
    "part of a party": (lambda: {"azp": "https://our.page"}, PARTY),
    "parties": (lambda: {"azp": ["https://our.page.example"]}, PARTY),
    "no party": (lambda: {"azp": None}, "the token has no claim azp"),
    "no user": (lambda: {"org_id": None}, "the token has no claim org_id"),
}


@pytest.mark.parametrize("lacking", LACKING)
async def test_a_token_is_told_what_it_lacks_and_nothing_of_what_is_expected(lacking: str) -> None:
    change, line = LACKING[lacking]
    expected: dict[str, Any] = {
        "jwt_audience": "our audience",
        "jwt_issuer": "our issuer",
        "jwt_authorized_parties": ["https://other.example", "https://our.page.example"],
    }
    claims: dict[str, Any] = {
        "aud": "our audience",
        "iss": "our issuer",
        "azp": "https://our.page.example",
        "org_id": ONE,
    }
    async with served(Shelf(), jwt_user_claim="org_id", **expected) as (_, client):
        assert (await client.get(ME, **bearer(token(**claims)))).status == 200
        payload = {"sub": "person", "exp": int(time.time()) + 60, **claims, **change()}
        made = jwt.encode({name: value for name, value in payload.items() if value is not None}, SECRET, "HS256")
        answer = await client.get(ME, **bearer(made))
        assert (answer.status, answer.error) == (401, line)
        assert f'error="invalid_token", error_description="{line}"' in answer.headers["WWW-Authenticate"]
        said = json.dumps([answer.body, dict(answer.headers)])
        assert not any(secret in said for secret in ("our audience", "our issuer", "our.page", SECRET))


async def test_a_wrong_signature_is_all_that_is_said_of_a_token_we_cannot_believe() -> None:
    settings: dict[str, Any] = {"jwt_audience": "a", "jwt_authorized_parties": ["p"], "jwt_user_claim": "org_id"}
    async with served(Shelf(), **settings) as (_, client):
        wrong: list[dict[str, Any]] = [{}, {"aud": "x"}, {"azp": "x"}, {"org_id": {}}]
        for claims in wrong:
            answer = await client.get(ME, **bearer(token(key="x" * 64, seconds=-60, **claims)))
            assert (answer.status, answer.error) == (401, "the token's signature is wrong")


async def test_without_authorized_parties_any_may_ask() -> None:
    async with served(Shelf()) as (_, client):
        anybody: list[dict[str, Any]] = [{}, {"azp": "anybody"}, {"azp": 5}]
        for claims in anybody:
            assert (await client.get(ME, **bearer(token(**claims)))).status == 200


@pytest.mark.parametrize("claim", ["", ".", "a.", ".a", "a..b", " sub", "a. b", "a\0b"])
def test_what_is_no_name_of_a_claim_is_refused(claim: str) -> None:
    with pytest.raises(ValidationError, match=r"must be the name of a claim, e\.g\. sub, org_id"):
        HttpSettings(jwt_user_claim=claim)


@pytest.mark.parametrize("claim", ["iss", "aud", "azp", "exp", "nbf", "iat", "jti"])
def test_a_claim_that_names_no_user_is_refused(claim: str) -> None:
    with pytest.raises(ValidationError, match="names no user"):
        HttpSettings(jwt_user_claim=claim)
