"""Verifies users' tokens (JWT): signature, audience, issuer and time. Imported only where users sign in."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt
import structlog

from creditsd.config.http_settings import SECRET_BYTES, HttpSettings
from creditsd.http import claims
from creditsd.http.errors import RequestRefused
from creditsd.http.jwks import ALGORITHMS, Jwks
from creditsd.http.key_timings import KeyTimings

log = structlog.get_logger()

LONGEST_CHARACTERS = 8000
LAST_SECOND = 1 << 40  # of what a token may call its end; later is never

_WRONG: list[tuple[type[jwt.PyJWTError], str]] = [
    (jwt.ExpiredSignatureError, "the token has expired: sign in again"),
    (jwt.ImmatureSignatureError, "the token is not valid yet: compare the clocks"),
    (jwt.InvalidAudienceError, "the token has the wrong audience: its aud is not http.jwt_audience"),
    (jwt.InvalidIssuerError, "the token has the wrong issuer: its iss is not http.jwt_issuer"),
    (jwt.InvalidSignatureError, "the token's signature is wrong"),
]
_NO_TOKEN = "this is neither an API key that is known here nor a token that can be read"  # noqa: S105  says so


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """Whose credits a token opens, who sent it, and when it expires, in seconds since 1970."""

    user_id: str
    subject: str
    """One person, where `user_id` may be the organization that many belong to."""
    expires_at: float


class JwtVerifier:
    """Verifies HS256 tokens by our secret and others by published keys, and never one by the other's."""

    def __init__(self, settings: HttpSettings, timings: KeyTimings, before: JwtVerifier | None = None) -> None:
        """Make one; it goes on with the published keys of the one `before` it, if those are of the same endpoint."""
        self._settings = settings
        self.keys: Jwks | None = _keys(settings.jwks_url, timings, before.keys if before is not None else None)
        if settings.jwt_secret and len(settings.jwt_secret.encode()) < SECRET_BYTES:
            log.warning("access.secret_found_short", hint=f"let http.jwt_secret be {SECRET_BYTES} random bytes or more")
            warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)  # said once is enough
        issuer = urlsplit(settings.jwks_url)
        if issuer.scheme == "http" and issuer.hostname not in ("localhost", "127.0.0.1", "::1"):
            log.warning("access.keys_read_in_clear", hint="let http.jwks_url begin with https://")
        self._user_claim = settings.user_claim
        wanted = {"aud": settings.jwt_audience, "iss": settings.jwt_issuer}
        required = ["exp", *(name for name, value in wanted.items() if value)]
        self._options: Any = {"require": required, "verify_aud": bool(settings.jwt_audience), "verify_sub": False}

    async def close(self, after: JwtVerifier | None = None) -> None:
        """Close the connection to the JWKS endpoint, unless the one `after` us goes on with it."""
        if self.keys is not None and (after is None or after.keys is not self.keys):
            await self.keys.close()

    async def verify(self, token: str) -> VerifiedToken:
        """Verify a token. Raises RequestRefused: 401 with the reason, 503 while its key cannot be fetched."""
        algorithm, kid = _header(token)
        key = await self._key(algorithm, kid)
        try:
            signed: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._settings.jwt_audience or None,
                issuer=self._settings.jwt_issuer or None,
                leeway=self._settings.jwt_leeway_seconds,
                options=self._options,
            )
        except jwt.PyJWTError as error:
            raise RequestRefused.unauthorized(_wrong(error), "invalid_token") from None
        except (ValueError, TypeError, OverflowError, RecursionError):  # whatever a stranger puts into JSON
            raise RequestRefused.unauthorized(_NO_TOKEN, "invalid_token") from None
        claims.check_party(signed, self._settings.jwt_authorized_parties)
        user_id = claims.user_id(signed, self._user_claim)
        subject = claims.text(signed.get("sub")) or user_id
        ends = min(int(signed["exp"]), LAST_SECOND)
        return VerifiedToken(user_id, subject, ends + self._settings.jwt_leeway_seconds)

    async def _key(self, algorithm: str, kid: str | None) -> Any:
        """Return the key that may verify a token of this algorithm.

        The algorithm is the token's own word, so it only chooses between what is configured: a published key never
        becomes an HMAC secret.
        """
        if algorithm == "HS256" and self._settings.jwt_secret:
            return self._settings.jwt_secret.encode()
        if algorithm in ALGORITHMS and self.keys is not None:
            return await self.keys.find(algorithm, kid)
        accepted = [*(["HS256"] if self._settings.jwt_secret else []), *(ALGORITHMS if self.keys else ())]
        raise RequestRefused.unauthorized(
            f"the token is signed in a way that is not accepted here, which is {', '.join(accepted)}", "invalid_token"
        )


def _keys(url: str, timings: KeyTimings, before: Jwks | None) -> Jwks | None:
    if before is not None and before.url == url:
        return before
    return Jwks(url, timings) if url else None


def _wrong(error: jwt.PyJWTError) -> str:
    """Say what a token lacks."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return claims.missing(error.claim)
    return next((line for kind, line in _WRONG if isinstance(error, kind)), _NO_TOKEN)


def _header(token: str) -> tuple[str, str | None]:
    """Read the algorithm and kid a token claims, which nothing has verified yet."""
    try:
        header = jwt.get_unverified_header(token) if len(token) <= LONGEST_CHARACTERS else {}
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        header = {}
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not (kid is None or isinstance(kid, str)):
        raise RequestRefused.unauthorized(_NO_TOKEN, "invalid_token")
    return algorithm, kid
