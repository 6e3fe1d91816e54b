"""Tokens signed by published keys, read from a real endpoint that changes them, breaks, and comes back."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
import trustme
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from creditsd.config.http_settings import HttpSettings
from creditsd.http.key_timings import KeyTimings
from creditsd.http.server import Timings
from tests.conftest import eventually
from tests.http.asking import ONE, SECRET, Asking, Shelf, http, served, token

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
EC384 = ec.generate_private_key(ec.SECP384R1())
EC521 = ec.generate_private_key(ec.SECP521R1())
ED = ed25519.Ed25519PrivateKey.generate()
KINDS = {
    **{f"{family}{bits}": RSA for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": EC, "ES384": EC384, "ES512": EC521, "EdDSA": ED,
}  # fmt: skip


def published(key: Any, algorithm: str, **facts: Any) -> dict[str, Any]:
    """Write a key as an issuer publishes it."""
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {name: value for name, value in ({"use": "sig"} | dict(made) | facts).items() if name != "key_ops"}


class Issuer:
    """Publishes keys at an address, as long as it is well."""

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self.body: bytes | None = None
        self.status = 200
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""
        self.moved_to = ""

    async def count(self) -> int:
        return self.asked

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        await self.gate.wait()
        if self.moved_to:
            raise web.HTTPFound(self.moved_to)
        body = self.body if self.body is not None else json.dumps({"keys": self.keys}).encode()
        return web.Response(status=self.status, body=body, content_type="application/json")


@asynccontextmanager
async def issuing(*keys: dict[str, Any], tls: ssl.SSLContext | None = None) -> AsyncIterator[Issuer]:
    issuer = Issuer()
    issuer.keys = list(keys)
    application = web.Application()
    application.add_routes([web.get("/jwks", issuer.answer)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    issuer.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{site.port}/jwks"
    try:
        yield issuer
    finally:
        issuer.gate.set()
        await runner.cleanup()


@asynccontextmanager
async def signing(
    *keys: Any, timings: KeyTimings | None = None, **settings: Any
) -> AsyncIterator[tuple[Issuer, Asking]]:
    """An issuer, and a surface that takes its tokens."""
    async with (
        issuing(*keys) as issuer,
        served(
            Shelf(),
            timings=Timings(keys=timings or KeyTimings()),
            **{"jwt_secret": "", "jwks_url": issuer.url} | settings,
        ) as (_, client),
    ):
        yield issuer, client


EAGER = KeyTimings(retry_seconds=0.0)
"""Read the keys again whenever there is a reason to."""

ALWAYS = KeyTimings(retry_seconds=0.0, fresh_seconds=0.0)
"""Read them again for every token."""


async def status(client: Asking, credential: str) -> int:
    answer = await client.read(ONE, credential)
    assert answer.status == 200 or answer.error
    return answer.status


async def test_each_kind_of_key_verifies_its_own_kind_of_token() -> None:
    kinds = [("RS256", RSA), ("ES256", EC), ("EdDSA", ED)]
    async with signing(*(published(key, name, kid=name) for name, key in kinds)) as (issuer, client):
        for name, key in kinds:
            made = token(key=key, algorithm=name, headers={"kid": name})
            assert await status(client, made) == 200, name
            assert await status(client, token(key=key, algorithm=name)) == 200, "the only one of its kind"
            assert await status(client, token(key=key, algorithm=name, headers={"kid": "other"})) == 401
            assert await status(client, token(key=key, algorithm=name, headers={"kid": name}, seconds=-60)) == 401
        assert await status(client, token(key=OTHER_RSA, algorithm="RS256", headers={"kid": "RS256"})) == 401
        assert await status(client, token(key=RSA, algorithm="PS256", headers={"kid": "RS256"})) == 401
        assert await status(client, token(key=RSA, algorithm="RS512", headers={"kid": "RS256"})) == 401
        assert issuer.asked == 1, "once for all of them: strangers can make up any kid"


async def test_a_key_verifies_the_one_algorithm_it_is_published_for_whatever_a_token_says() -> None:
    for name, key in KINDS.items():
        async with signing(published(key, name, kid="k", alg=name), requests_per_second_per_caller=0) as (_, client):
            for said in [each for each, fits in KINDS.items() if fits is key]:
                answer = await client.read(ONE, token(key=key, algorithm=said, headers={"kid": "k"}))
                assert answer.status == (200 if said == name else 401), (name, said)
                if said != name:
                    assert answer.error == f"the token is signed by {said}, and its key (kid) is published for {name}"


@pytest.mark.parametrize(
    ("key", "alg"),
    [(RSA, "ES256"), (RSA, "HS256"), (RSA, "RSA-OAEP"), (RSA, "none"), (RSA, ["RS256"]), (EC, "ES384"), (EC, "RS256")],
)
async def test_a_key_whose_alg_does_not_fit_its_kind_verifies_nothing(key: Any, alg: Any) -> None:
    family = "RS256" if key is RSA else "ES256"
    other = published(ED, "EdDSA", kid="other")
    async with signing(published(key, family, kid="k") | {"alg": alg}, other) as (_, client):
        assert await status(client, token(key=ED, algorithm="EdDSA")) == 200
        for said in [name for name, fits in KINDS.items() if fits is key]:
            assert await status(client, token(key=key, algorithm=said, headers={"kid": "k"})) == 401


async def test_what_is_wrong_with_the_key_of_a_token_is_said() -> None:
    keys = [published(RSA, "RS256", kid="one"), published(OTHER_RSA, "RS256", kid="two")]
    async with signing(*keys) as (_, client):
        unknown = await client.read(ONE, token(key=RSA, algorithm="RS256", headers={"kid": "three"}))
        assert unknown.error.startswith("the token is signed by an unknown key")
        nameless = await client.read(ONE, token(key=RSA, algorithm="RS256"))
        assert nameless.error == "the token does not name its key (kid), and several are published for RS256"
        hmac = await client.read(ONE, token())
        assert "is not accepted here, which is RS256, RS384" in hmac.error


def confused(public: Any, kid: str) -> list[str]:
    """Tokens that take a public key, in every form it is known in, for an HMAC secret."""
    forms = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).strip(),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        json.dumps({"keys": [published(RSA, "RS256", kid=kid)]}).encode(),
        str(published(RSA, "RS256")["n"]).encode(),
        b"",
    ]
    made = []
    for form in forms:
        for header in ({"alg": "HS256", "kid": kid}, {"alg": "HS256"}):
            parts = [jwt.utils.base64url_encode(json.dumps(part).encode()) for part in (header, claims())]
            signature = jwt.get_algorithm_by_name("HS256").sign(b".".join(parts), form)
            made.append(b".".join((*parts, jwt.utils.base64url_encode(signature))).decode())
    return made


def claims() -> dict[str, Any]:
    return {"sub": ONE, "exp": 4_000_000_000}


@pytest.mark.parametrize("secret", ["", SECRET])
async def test_a_public_key_never_becomes_a_secret(secret: str) -> None:
    keys = [published(RSA, "RS256", kid="k"), {"kty": "oct", "k": "c2VjcmV0", "kid": "o"}]
    async with signing(*keys, jwt_secret=secret) as (_, client):
        assert await status(client, token(key=RSA, algorithm="RS256", headers={"kid": "k"})) == 200
        for made in confused(RSA.public_key(), "k"):
            assert await status(client, made) == 401
        assert await status(client, token(key=b"secret" * 6, headers={"kid": "o"})) == 401
        assert await status(client, token()) == (200 if secret else 401)


async def test_keys_rotate_without_a_restart() -> None:
    async with signing(published(RSA, "RS256", kid="old"), timings=EAGER) as (issuer, client):
        old = token(key=RSA, algorithm="RS256", headers={"kid": "old"})
        new = token(key=OTHER_RSA, algorithm="RS256", headers={"kid": "new"})
        assert (await status(client, old), await status(client, new)) == (200, 401)
        issuer.keys.append(published(OTHER_RSA, "RS256", kid="new"))
        assert (await status(client, old), await status(client, new)) == (200, 200)
        del issuer.keys[0]
        assert await status(client, token(key=RSA, algorithm="RS256", headers={"kid": "unheard of"})) == 401
        assert (await status(client, old), await status(client, new)) == (401, 200)


@pytest.mark.parametrize(("timings", "after"), [(EAGER, 200), (ALWAYS, 401)])
async def test_a_withdrawn_key_is_believed_no_longer_than_keys_are_fresh(timings: KeyTimings, after: int) -> None:
    async with signing(published(RSA, "RS256", kid="old"), timings=timings) as (issuer, client):
        made = token(key=RSA, algorithm="RS256", headers={"kid": "old"})
        assert await status(client, made) == 200
        issuer.keys = [published(OTHER_RSA, "RS256", kid="new")]
        assert await status(client, made) == after


async def test_unknown_keys_are_asked_for_seldom() -> None:
    async with signing(published(RSA, "RS256", kid="k")) as (issuer, client):
        made = [token(key=RSA, algorithm="RS256", headers={"kid": f"made up {n}"}) for n in range(50)]
        assert set(await asyncio.gather(*(status(client, each) for each in made))) == {401}
        assert issuer.asked == 1


async def test_where_a_token_says_that_its_key_is_is_never_looked() -> None:
    async with (
        issuing(published(OTHER_RSA, "RS256", kid="k")) as stranger,
        signing(published(RSA, "RS256", kid="k"), timings=EAGER) as (_, client),
    ):
        key_of_its_own = {"jwk": published(OTHER_RSA, "RS256", kid="k"), "x5c": ["MIIB"]}
        kids = ("k", "../jwks", "k\n", "k' OR '1'='1", "/dev/null", "k" * 5000)
        for header in (
            *({name: stranger.url, **({} if name == "kid" else {"kid": "k"})} for name in ("jku", "x5u", "kid")),
            *({"kid": kid, **key_of_its_own} for kid in kids),
        ):
            made = token(key=OTHER_RSA, algorithm="RS256", headers=header, iss=stranger.url)
            assert await status(client, made) == 401, header
        assert stranger.asked == 0


async def test_keys_from_behind_a_certificate_that_nobody_trusts_are_not_read() -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with issuing(published(RSA, "RS256", kid="k"), tls=tls) as issuer:
        async with served(Shelf(), jwt_secret="", jwks_url=issuer.url) as (_, client):
            made = token(key=RSA, algorithm="RS256", headers={"kid": "k"})
            assert await status(client, made) == 503
        assert issuer.asked == 0


async def test_an_endpoint_that_redirects_is_not_followed() -> None:
    async with issuing(published(RSA, "RS256", kid="k")) as elsewhere, issuing() as issuer:
        issuer.moved_to = elsewhere.url
        async with served(Shelf(), jwt_secret="", jwks_url=issuer.url) as (_, client):
            made = token(key=RSA, algorithm="RS256", headers={"kid": "k"})
            assert await status(client, made) == 503
        assert (issuer.asked, elsewhere.asked) == (1, 0)


async def test_an_endpoint_that_is_down_is_survived_for_a_while() -> None:
    made = token(key=RSA, algorithm="RS256", headers={"kid": "k"})
    async with signing(published(RSA, "RS256", kid="k"), timings=ALWAYS) as (issuer, client):
        assert await status(client, made) == 200
        for wrong, body in (
            (500, None),
            (302, None),
            (200, b"no JSON"),
            (200, b'{"keys": 5}'),
            (200, b'{"keys":[]}'),
        ):
            issuer.status, issuer.body = wrong, body
            assert await status(client, made) == 200, (wrong, body)


async def test_a_reload_keeps_the_keys_of_an_endpoint_that_is_down() -> None:
    made = token(key=RSA, algorithm="RS256", headers={"kid": "k"})
    async with (
        issuing(published(RSA, "RS256", kid="k")) as issuer,
        issuing(published(OTHER_RSA, "RS256", kid="k")) as other,
        served(Shelf(), jwt_secret="", jwks_url=issuer.url) as (surface, client),
    ):

        async def reloaded(**settings: Any) -> None:
            await surface.follow(HttpSettings.model_validate(http(jwt_secret="") | settings))

        assert await status(client, made) == 200
        issuer.status = 500
        await reloaded(jwks_url=issuer.url, jwt_leeway_seconds=5)
        assert await status(client, made) == 200
        await reloaded(jwks_url=other.url)
        assert await status(client, made) == 401
        assert (issuer.asked, other.asked) == (1, 1)


async def test_keys_that_could_not_be_read_for_too_long_are_believed_no_more() -> None:
    made = token(key=RSA, algorithm="RS256", headers={"kid": "k"})
    timings = KeyTimings(retry_seconds=0.0, fresh_seconds=0.0, stale_seconds=0.3)
    async with signing(published(RSA, "RS256", kid="k"), timings=timings, requests_per_second_per_address=0) as found:
        issuer, client = found
        assert await status(client, made) == 200
        issuer.status = 500
        await eventually(lambda: status(client, made), lambda answered: answered == 503)
        answer = await client.read(ONE, made)
        assert int(answer.headers["Retry-After"]) >= 1
        issuer.status = 200
        assert await status(client, made) == 200


async def test_keys_that_never_came_are_503_and_not_the_tokens_fault() -> None:
    made = token(key=RSA, algorithm="RS256", headers={"kid": "k"})
    async with issuing(published(RSA, "RS256", kid="k")) as issuer:
        issuer.status = 503
        eager = Timings(keys=EAGER)
        async with served(Shelf(), timings=eager, jwks_url=issuer.url, jwt_secret=SECRET) as (_, client):
            assert await status(client, made) == 503
            assert await status(client, token()) == 200, "the other way to sign in goes on"
            issuer.status = 200
            assert await status(client, made) == 200


async def test_one_reads_the_keys_again_and_the_others_do_not_wait() -> None:
    made = token(key=RSA, algorithm="RS256", headers={"kid": "k"})
    patient = dataclasses.replace(ALWAYS, fetch_seconds=3600.0)
    async with signing(published(RSA, "RS256", kid="k"), timings=patient) as (issuer, client):
        assert await status(client, made) == 200
        issuer.gate.clear()
        first = asyncio.create_task(status(client, made))
        await eventually(issuer.count, lambda asked: asked == 2)  # it is being read, and nobody answers
        async with asyncio.timeout(60):
            assert await status(client, made) == 200
        issuer.gate.set()
        assert await first == 200


@pytest.mark.parametrize(
    "broken",
    [
        {"kty": "RSA", "n": "AQAB", "e": "!!", "kid": "b"},
        {"kty": "RSA", "kid": "b"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "b"},
        {"kty": "EC", "crv": "P-521", "kid": "b"},
        {"kty": ["RSA"], "kid": "b"},
        {"kid": 5},
        [],
        None,
    ],
)
async def test_a_key_that_cannot_be_read_spoils_no_other(broken: Any) -> None:
    good = published(RSA, "RS256", kid="k")
    async with signing(broken, published(OTHER_RSA, "RS256", kid="e", use="enc"), good) as (_, client):
        assert await status(client, token(key=RSA, algorithm="RS256", headers={"kid": "k"})) == 200
        assert await status(client, token(key=OTHER_RSA, algorithm="RS256", headers={"kid": "e"})) == 401
