"""Whatever is sent for a token, and published for a key: let in by a right signature alone, else 401 with one line."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from creditsd.config.http_settings import HttpSettings
from creditsd.http import jwks
from creditsd.http.errors import RequestRefused
from creditsd.http.jwt import JwtVerifier, VerifiedToken
from creditsd.http.key_timings import KeyTimings
from tests.http.asking import ONE, SECRET, token

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", "\ud800", "\0", "none", "HS256", "RS256", "EdDSA", "AQAB", "9" * 400]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([2**63, 10**300, time.time() + 60])
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jku", "jwk", "x5c", "zip"]) | TEXTS, VALUES
)
CLAIMS = st.dictionaries(st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "azp", "jti"]) | TEXTS, VALUES)
KEYS = st.dictionaries(
    st.sampled_from(["kty", "crv", "alg", "use", "kid", "n", "e", "d", "p", "q", "x", "y", "oth", "key_ops"]),
    VALUES
    | st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "P-521", "Ed25519", "X25519", "sig", "enc", "A" * 43]),
)
RIGHT = token()


def verified(sent: str) -> VerifiedToken | None:
    """Verify a token; None where it is refused, by 401 and one line that can be printed."""
    verifier = JwtVerifier(HttpSettings(jwt_secret=SECRET), KeyTimings())
    try:
        return asyncio.run(verifier.verify(sent))
    except RequestRefused as refused:
        answer = refused
    assert answer.status == 401
    assert answer.error.isprintable()
    assert answer.headers["WWW-Authenticate"].isascii()
    answer.response()
    return None


def part(document: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def signed(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    head = f"{part(header)}.{part(claims)}"
    digest = hmac.new(SECRET.encode(), head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


@given(st.integers(0, len(RIGHT)), st.integers(0, 6), st.text("ABab01-_=.+/ \n\0é\ud800", max_size=4))
def test_a_token_that_was_changed_opens_nothing(at: int, taken: int, put: str) -> None:
    changed = RIGHT[:at] + put + RIGHT[at + taken :]
    found = verified(changed)
    assert found is None or changed.rpartition(".")[0] == RIGHT.rpartition(".")[0]


@given(HEADERS, CLAIMS, st.binary(max_size=70))
@example({"alg": "none"}, {"sub": ONE}, b"")
def test_a_token_that_somebody_else_made_opens_nothing(
    header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes
) -> None:
    for algorithm in ({}, {"alg": "HS256"}):
        head = f"{part({**header, **algorithm})}.{part({'exp': time.time() + 60, 'sub': ONE, **claims})}"
        assert verified(f"{head}.{base64.urlsafe_b64encode(signature).decode()}") is None


@given(HEADERS, CLAIMS)
@example({}, {"exp": float("inf")})
@example({}, {"exp": [1]})
@example({}, {"sub": "\ud800"})
def test_whatever_a_right_token_says_it_names_a_user_or_is_refused(
    header: Mapping[str, Any], claims: Mapping[str, Any]
) -> None:
    found = verified(signed({**header, "alg": "HS256"}, {"sub": ONE, "exp": int(time.time()) + 60, **claims}))
    if found is not None:
        assert found.user_id == str(claims.get("sub", ONE))
        assert found.expires_at > time.time()


@given(st.lists(KEYS, max_size=3).map(lambda keys: json.dumps({"keys": keys}).encode()) | st.binary(max_size=60))
def test_whatever_is_published_for_keys_is_keys_or_none(body: bytes) -> None:
    try:
        found = jwks._usable(body)
    except ValueError:
        return
    assert {each.algorithm_name for each in found} <= {*jwks.ALGORITHMS}
