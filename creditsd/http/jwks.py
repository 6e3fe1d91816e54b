"""Fetches and caches the keys that verify users' tokens (JWKS)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import jwt
import orjson
import structlog

from creditsd.http.errors import RequestRefused
from creditsd.http.key_timings import KeyTimings

log = structlog.get_logger()


LONGEST_BYTES = 1 << 20

# What a key may verify, by its type and curve: the first, where it does not say itself by its alg.
_VERIFIES: Mapping[tuple[str, str | None], Sequence[str]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
ALGORITHMS = tuple(each for algorithms in _VERIFIES.values() for each in algorithms)


class Jwks:
    """Single-flight refresh of one endpoint's key set; concurrent callers use the cached one."""

    def __init__(self, url: str, timings: KeyTimings) -> None:
        self.url = url
        self._timings = timings
        self._keys: Sequence[jwt.PyJWK] = ()
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._failed = False
        self._lock = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def find(self, algorithm: str, kid: str | None) -> Any:
        """Return the key for an algorithm and kid; without a kid the only key of that algorithm.

        Raises RequestRefused: 401 where there is none, 503 where the keys have never been read, or not for too long.
        """
        found = self._find(algorithm, kid)
        if self._age > self._timings.fresh_seconds or found is None:
            await self._refresh(wait=found is None or self._age > self._timings.stale_seconds)
            found = self._find(algorithm, kid)
        if self._age > self._timings.stale_seconds:
            raise RequestRefused.later(
                503, "the keys that tokens are verified by cannot be read now", self._timings.retry_seconds
            )
        if found is None:
            raise RequestRefused.unauthorized(self._why_not(algorithm, kid), "invalid_token")
        return found.key

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def _age(self) -> float:
        return float("inf") if self._read_at is None else time.monotonic() - self._read_at

    def _find(self, algorithm: str, kid: str | None) -> jwt.PyJWK | None:
        fitting = [each for each in self._keys if each.algorithm_name == algorithm and kid in (None, each.key_id)]
        return fitting[0] if len(fitting) == 1 or (fitting and kid is not None) else None

    def _why_not(self, algorithm: str, kid: str | None) -> str:
        """Say why no key verifies a token. What is published is no secret; what the token says is not quoted."""
        same = [each.algorithm_name for each in self._keys if kid is not None and each.key_id == kid]
        if same:
            return f"the token is signed by {algorithm}, and its key (kid) is published for {', '.join(same)}"
        if kid is None and sum(each.algorithm_name == algorithm for each in self._keys) > 1:
            return f"the token does not name its key (kid), and several are published for {algorithm}"
        return "the token is signed by an unknown key: http.jwks_url publishes none that fits its alg and kid"

    async def _refresh(self, *, wait: bool) -> None:
        """Fetch the keys, unless that was tried a moment ago; without `wait` also unless a fetch is under way."""
        if self._lock.locked() and not wait:
            return
        async with self._lock:
            if self._tried_at is not None and time.monotonic() - self._tried_at < self._timings.retry_seconds:
                return
            self._tried_at = time.monotonic()
            try:
                self._keys = _usable(await self._fetch())
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                say = log.debug if self._failed else log.warning
                say("keys.unread", url=self.url, reason=f"{type(error).__name__}: {error}")
                self._failed = True
                return
            if self._failed or self._read_at is None:
                log.info("keys.read", url=self.url, keys=len(self._keys))
            self._failed, self._read_at = False, time.monotonic()

    async def _fetch(self) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timings.fetch_seconds))
        async with self._session.get(self.url, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"answered {response.status}")
            body = await response.content.read(LONGEST_BYTES)
            while not response.content.at_eof() and len(body) < LONGEST_BYTES:
                body += await response.content.read(LONGEST_BYTES)
            return body


def _usable(body: bytes) -> list[jwt.PyJWK]:
    """Return the keys that can verify signatures; skip those for other uses, secret ones and broken ones."""
    document = orjson.loads(body)
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is no JWKS")  # noqa: TRY004  the caller tells what cannot be read from what is a bug
    found: list[jwt.PyJWK] = []
    for each in listed:
        algorithm = _algorithm(each) if isinstance(each, dict) else None
        if algorithm is None:
            continue
        try:
            found.append(jwt.PyJWK(each, algorithm))
        except (jwt.PyJWTError, ValueError, TypeError):
            log.debug("keys.skipped", reason="a key that cannot be read")
    if not found:
        raise ValueError(f"it has no key that verifies {', '.join(ALGORITHMS)}")
    return found


def _algorithm(key: Mapping[str, Any]) -> str | None:
    """Return the one algorithm a published key verifies; None for those we do not accept."""
    kind, curve = key.get("kty"), key.get("crv")
    possible = _VERIFIES.get((str(kind), None if kind == "RSA" else str(curve)), ())
    if not possible or key.get("use", "sig") != "sig":
        return None
    algorithm = key.get("alg", possible[0])
    return algorithm if algorithm in possible else None
