"""Who may read what: every credential that is none, and every user who is another."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from structlog.testing import capture_logs

from creditsd.config.http_settings import HttpSettings
from creditsd.domain.errors import DatabaseUnavailable
from creditsd.http.auth import Auth
from creditsd.metrics.counters import HttpMetrics
from creditsd.metrics.registry import registry
from tests.http.asking import KEY, ONE, SECRET, TWO, Answer, Asking, Shelf, bearer, counted, served, token

PATHS = ("credits", "credits/stream")


def unsigned(**claims: Any) -> str:
    return token(algorithm="none", key=None, **claims)


def resigned(change: dict[str, Any]) -> str:
    """A token whose claims were changed after it had been signed."""
    head, body, signature = token(ONE).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    body = base64.urlsafe_b64encode(json.dumps(claims | change).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


def raw_token(payload: bytes, header: bytes = b'{"alg":"HS256","typ":"JWT"}') -> str:
    """A token of any bytes at all, signed with our own secret."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload)]
    signature = jwt.get_algorithm_by_name("HS256").sign(b".".join(parts), SECRET.encode())
    return b".".join((*parts, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()


async def everywhere(client: Asking, user_id: str, headers: dict[str, str]) -> list[Answer]:
    """Ask for a total in each of the ways that there are."""
    named = {name.replace("-", "_"): value for name, value in headers.items()}
    paths = [f"/v1/users/{user_id}/{path}" for path in PATHS] + [f"/v1/me/{path}" for path in PATHS]
    return [await client.get(path, **named) for path in paths]


async def test_without_a_key_nobody_reads_anyone_and_the_line_says_what_opens() -> None:
    async with served(Shelf(), api_keys=[], jwt_secret="") as (_, client):
        for headers in ({}, bearer(KEY), bearer(token()), {"X-API-Key": KEY}):
            for answer in await everywhere(client, ONE, headers):
                assert answer.status == 403
                assert "set CREDITSD_HTTP__API_KEYS" in answer.error


async def test_no_credential_and_a_wrong_one_are_401_with_a_challenge() -> None:
    shelf = Shelf()
    shelf.put(ONE, 7, secret_of=ONE)
    credentials: list[dict[str, str]] = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  "},
        {"Authorization": f"Basic {base64.b64encode(f'x:{KEY}'.encode()).decode()}"},
        {"Authorization": KEY},
        bearer(KEY + "x"),
        bearer(KEY[:-1]),
        bearer("sha256:" + hashlib.sha256(KEY.encode()).hexdigest()),
        bearer("a.b.c"),
        bearer("…"),
        bearer("x" * 8000),
        {"X-API-Key": "no"},
        {"X-API-Key": token()},
        {"X-API-Key": "no", "Authorization": f"Bearer {KEY}"},
    ]
    async with served(shelf, requests_per_second_per_address=0) as (surface, client):
        for headers in credentials:
            for answer in await everywhere(client, ONE, headers):
                assert answer.status == 401, headers
                assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="creditsd"')
                assert answer.error
        assert counted(surface, "http_auth_failures", status="401") == 4 * len(credentials)
        assert counted(surface, "streams_opened") == 0


FORGED: dict[str, Callable[[], str]] = {
    "expired": lambda: token(seconds=-60),
    "just expired, past the leeway": lambda: token(seconds=-11),
    "not valid yet": lambda: token(nbf=int(time.time()) + 60),
    "issued in the future": lambda: token(iat=int(time.time()) + 60),
    "of another secret": lambda: token(key="another secret of sixty-four bytes that is as long as the first."),
    "of another secret for our own key id": lambda: token(key="x" * 64, headers={"kid": "../../dev/null"}),
    "unsigned": unsigned,
    "unsigned, in other letters": lambda: raw_token(b"{}", b'{"alg":"nOnE"}').rsplit(".", 1)[0] + ".",
    "stripped of its signature": lambda: token().rsplit(".", 1)[0] + ".",
    "changed afterwards": lambda: resigned({"sub": TWO}),
    "prolonged afterwards": lambda: resigned({"exp": int(time.time()) + 10_000}),
    "without an end": lambda: jwt.encode({"sub": ONE}, SECRET, "HS256"),
    "with an end that is none": lambda: raw_token(json.dumps({"sub": ONE, "exp": "soon"}).encode()),
    "with an infinite end": lambda: raw_token(b'{"sub": "%b", "exp": Infinity}' % ONE.encode()),
    "with an end beyond all numbers": lambda: raw_token(b'{"sub": "%b", "exp": 1e999}' % ONE.encode()),
    "with an end that is no number": lambda: raw_token(b'{"sub": "%b", "exp": NaN}' % ONE.encode()),
    "with an end that is true": lambda: token(exp=True),
    "with an end that is a list": lambda: token(exp=[int(time.time()) + 60]),
    "with an end as text, and over": lambda: token(exp=str(int(time.time()) - 60)),
    "with an end as a fraction, and over": lambda: token(exp=time.time() - 60.5),
    "with an end before all time": lambda: token(exp=-(10**30)),
    "of nobody": lambda: token(sub=None),
    "of an empty user": lambda: token(sub=""),
    "of a user who is a list": lambda: raw_token(json.dumps({"sub": [ONE], "exp": time.time() + 60}).encode()),
    "a list": lambda: raw_token(b"[]"),
    "no JSON": lambda: raw_token(b"{"),
    "not UTF-8": lambda: raw_token(b'{"sub": "\xff"}'),
    "nested without end": lambda: raw_token(b"[" * 4000),
    "with half a character in its header": lambda: raw_token(b"{}", b'{"alg":"HS256","kid":"\\ud800"}'),
    "with a header that is a list": lambda: raw_token(b"{}", b"[1]"),
    "of an algorithm that is a list": lambda: raw_token(b"{}", b'{"alg":["HS256"]}'),
    "of a stronger algorithm by the same secret": lambda: token(algorithm="HS512"),
    "with a demand that we do not know": lambda: token(headers={"crit": ["x"], "x": 1}),
    "within a token": lambda: raw_token(token().encode(), b'{"alg":"HS256","cty":"JWT"}'),
    "encrypted": lambda: ".".join((*token().split("."), "x", "x")),
    "with two signatures": lambda: token() + "." + token().rsplit(".", 1)[1],
    "with its signature before": lambda: ".".join(token().split(".")[::-1]),
    "with a key id as long as a header": lambda: token(key="x" * 64, headers={"kid": "k" * 5500}),
    "with a key of its own": lambda: token(headers={"jwk": {"kty": "oct", "k": "eA"}}, key="x" * 64),
}


async def test_tokens_that_are_expired_forged_or_broken_open_nothing() -> None:
    shelf = Shelf()
    for user_id in (ONE, TWO):
        shelf.put(user_id, 7)
    async with served(shelf, requests_per_second_per_address=0) as (surface, client):
        for name, make in FORGED.items():
            for answer in await everywhere(client, ONE, bearer(make())):
                assert answer.status == 401, name
                assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"], name
                assert "token" in answer.error
        assert counted(surface, "streams_opened") == 0


async def test_the_leeway_is_for_clocks_that_differ() -> None:
    async with served(Shelf()) as (_, client):
        assert (await client.read(ONE, token(seconds=-5))).status == 200
        assert (await client.read(ONE, token(nbf=int(time.time()) + 5))).status == 200
    async with served(Shelf(), jwt_leeway_seconds=0) as (_, client):
        assert (await client.read(ONE, token(seconds=-1))).status == 401


@pytest.mark.parametrize(
    ("setting", "right", "wrong"),
    [
        ("jwt_audience", [{"aud": "credits"}, {"aud": ["x", "credits"]}], [{}, {"aud": "x"}, {"aud": []}, {"aud": 5}]),
        ("jwt_issuer", [{"iss": "credits"}], [{}, {"iss": "x"}, {"iss": "credit"}]),
    ],
)
async def test_a_foreign_token_is_refused_where_it_is_asked_whom_it_is_for_and_from(
    setting: str, right: list[dict[str, Any]], wrong: list[dict[str, Any]]
) -> None:
    asked: dict[str, Any] = {setting: "credits"}
    async with served(Shelf(), **asked) as (_, client):
        for claims in right:
            assert (await client.read(ONE, token(**claims))).status == 200, claims
        for claims in wrong:
            assert (await client.read(ONE, token(**claims))).status == 401, claims
    async with served(Shelf()) as (_, client):
        assert (await client.read(ONE, token(aud="anybody", iss="anybody"))).status == 200


async def test_a_user_reads_their_own_credits_and_nobody_elses() -> None:
    shelf = Shelf()
    for user_id in (ONE, TWO):
        shelf.put(user_id, 7)
    async with served(shelf) as (_, client):
        for path in ("/v1/me/credits", f"/v1/users/{ONE}/credits", f"/v1/users/{ONE.replace('-', '')}/credits"):
            answer = await client.get(path, **bearer(token(ONE.upper())))
            assert (answer.status, answer.body["data"]["user_id"]) == (200, ONE)
            assert answer.headers["Cache-Control"] == "no-store"
        for other in (TWO, "nobody", "me", "%2E%2E", "x" * 3000, f"{ONE}%00", f"{ONE}%20", f"%20{ONE}", f"{ONE},{TWO}"):
            for path in PATHS:
                answer = await client.get(f"/v1/users/{other}/{path}", **bearer(token(ONE)))
                assert answer.status in (403, 404), other
                assert answer.error
                assert TWO not in json.dumps(answer.body)


async def test_a_token_of_somebody_who_cannot_be_a_user_here_is_403() -> None:
    async with served(Shelf()) as (_, client):
        answer = await client.get("/v1/me/credits", **bearer(token("auth0|5f7c")))
        assert answer.status == 403
        assert "none of our users" in answer.error


async def test_a_server_reads_everyone_by_a_key_that_is_plain_or_a_digest_and_has_no_credits_of_its_own() -> None:
    other = "another key of a server"
    keys = [KEY, "sha256:" + hashlib.sha256(other.encode()).hexdigest().upper()]
    async with served(Shelf(), api_keys=keys, jwt_secret="") as (_, client):
        for key in (KEY, other):
            for user_id in (ONE, TWO):
                assert (await client.read(user_id, key)).status == 200
                assert (await client.get(f"/v1/users/{user_id}/credits", X_API_Key=key)).status == 200
        for path in PATHS:
            answer = await client.get(f"/v1/me/{path}", **bearer(KEY))
            assert (answer.status, "set CREDITSD_HTTP__JWT_SECRET" in answer.error) == (403, True)
    async with served(Shelf()) as (_, client):
        answer = await client.get("/v1/me/credits", **bearer(KEY))
        assert (answer.status, "/v1/users/{id}/credits" in answer.error) == (403, True)


async def test_a_token_in_the_address_opens_nothing() -> None:
    async with served(Shelf()) as (_, client):
        for name in ("token", "access_token", "api_key", "jwt"):
            assert (await client.get(f"/v1/users/{ONE}/credits?{name}={quote(KEY)}")).status == 401
            assert (await client.get(f"/v1/me/credits/stream?{name}={token()}")).status == 401


async def test_ids_of_any_text_arrive_as_they_are() -> None:
    shelf = Shelf("text")
    ids = ["a/b", "a//b", '"quoted"', "it's", "a b", "%2F", "%", "{x}", "ä€💶", "a?b#c", "a;b=c", "..", "x" * 2600]
    async with served(shelf) as (_, client):
        for number, user_id in enumerate(ids, 1):
            shelf.put(user_id, number)
            written = "".join(f"%{byte:02X}" for byte in user_id.encode())
            if len(written) > 8000:
                written = user_id
            answer = await client.read(written, KEY)
            assert (answer.status, answer.body["data"]["user_id"]) == (200, user_id)
            assert (await client.read(written, token(user_id))).status == 200
        for bad in ("x" * 2601, "a%00b"):
            answer = await client.read(bad, KEY)
            assert (answer.status, "is not a user's id" in answer.error) == (400, True)
        assert (await client.read("x" * 10_240, KEY)).status == 431
        assert (await client.get("/v1/users/a/b/credits", **bearer(KEY))).status == 404
        assert (await client.get("/v1/users//credits", **bearer(KEY))).status == 404


async def test_numbers_are_one_user_however_they_are_written() -> None:
    shelf = Shelf("bigint")
    shelf.put("7", 1)
    async with served(shelf) as (_, client):
        for written in ("7", "007", "%2B7"):
            assert (await client.read(written, token("7"))).body["data"]["version"] == 1
        for bad in ("7.0", "0x7", "9223372036854775808", "\u0667", "1_0", "7 "):
            assert (await client.read(bad, KEY)).status == 400, bad


async def test_other_methods_and_other_paths_are_said_in_json() -> None:
    async with served(Shelf()) as (_, client):
        for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE"):
            answer = await client.get("/v1/me/credits", method, **bearer(token()))
            assert (answer.status, "GET" in answer.headers["Allow"]) == (405, True)
            assert answer.error
        assert (await client.get("/v1/me/credits", "NONSENSE", **bearer(token()))).status == 400
        assert (await client.get("/v1/me/credits/stream", "HEAD", **bearer(token()))).status == 405
        assert (await client.get("/v1/me/credits", "HEAD", **bearer(token()))).status == 200
        assert "nothing at /v2" in (await client.get("/v2")).error


async def test_a_source_that_is_away_is_503_and_when_to_come_again() -> None:
    shelf = Shelf()
    shelf.failure = DatabaseUnavailable("connection refused to db.internal")
    async with served(shelf) as (surface, client):
        for path in PATHS:
            answer = await client.get(f"/v1/me/{path}", **bearer(token()))
            assert (answer.status, int(answer.headers["Retry-After"]) >= 1) == (503, True)
            assert "db.internal" not in answer.error
        assert counted(surface, "streams_open") == 0


async def test_too_many_requests_are_429_by_address_and_by_caller() -> None:
    shelf = Shelf()
    async with served(shelf, requests_per_second_per_address=2, requests_per_second_per_caller=0) as (surface, client):
        answers = [await client.get("/v1/me/credits") for _ in range(20)]
        assert [each.status for each in answers[:4]] == [401] * 4
        limited = [each for each in answers if each.status == 429]
        assert limited
        assert int(limited[0].headers["Retry-After"]) >= 1
        assert "slow down" in limited[0].error
        assert (await client.get("/livez")).status == 200
        assert counted(surface, "http_limited", by="address") == len(limited)
    async with served(shelf, requests_per_second_per_address=0, requests_per_second_per_caller=1) as (_, client):
        mine = [(await client.get("/v1/me/credits", **bearer(token()))).status for _ in range(10)]
        assert 429 in mine
        assert (await client.get("/v1/me/credits", **bearer(token(TWO)))).status == 200


async def test_behind_our_own_proxy_the_client_is_who_it_says() -> None:
    shelf = Shelf()
    settings: dict[str, Any] = {"requests_per_second_per_address": 1, "trusted_proxies": ["127.0.0.0/8"]}
    async with served(shelf, **settings) as (_, client):
        for number in range(10):
            assert (await client.get("/v1/me/credits", X_Forwarded_For=f"6.6.6.6, 10.0.0.{number}")).status == 401
        spoofed = [await client.get("/v1/me/credits", X_Forwarded_For=f"{n}.1.1.1, 10.0.0.99") for n in range(10)]
        assert 429 in [each.status for each in spoofed]
    async with served(shelf, requests_per_second_per_address=1) as (_, client):
        spoofed = [await client.get("/v1/me/credits", X_Forwarded_For=f"10.0.0.{n}") for n in range(10)]
        assert 429 in [each.status for each in spoofed]


def test_short_secrets_are_warned_of_and_not_shown() -> None:
    made = HttpSettings(api_keys=["short"], jwt_secret="shorter than thirty-two")
    with capture_logs() as logs:
        Auth(made, Shelf().hub, HttpMetrics(registry()))
    assert {each["event"] for each in logs} == {"access.secret_found_short", "access.key_found_short"}
    assert "shorter than" not in str(logs)


def test_keys_that_anybody_on_the_way_could_change_are_warned_of() -> None:
    for url, warned in (("http://auth.example.com/jwks", 1), ("https://auth.example.com", 0), ("http://localhost/", 0)):
        with capture_logs() as logs:
            Auth(HttpSettings(jwks_url=url), Shelf().hub, HttpMetrics(registry()))
        assert [each["event"] for each in logs] == ["access.keys_read_in_clear"] * warned


async def test_a_short_secret_works_all_the_same() -> None:
    async with served(Shelf(), jwt_secret="short") as (_, client):
        with pytest.warns(jwt.InsecureKeyLengthWarning):
            made = token(key="short")
        assert (await client.read(ONE, made)).status == 200
