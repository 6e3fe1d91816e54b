"""Authenticates callers, and authorizes reads: an API key reads everyone, a token its own user alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from creditsd.config.http_settings import HttpSettings
from creditsd.domain.errors import InputError
from creditsd.http.api_keys import ApiKeys
from creditsd.http.errors import RequestRefused
from creditsd.http.hub import Hub
from creditsd.http.key_timings import KeyTimings
from creditsd.http.rate_limit import RateLimit
from creditsd.metrics.counters import HttpMetrics

if TYPE_CHECKING:
    from creditsd.http.jwt import JwtVerifier

_NOTHING_OPENS = (
    "nobody's credits are told here yet: set CREDITSD_HTTP__API_KEYS for servers, or CREDITSD_HTTP__JWT_SECRET or "
    "CREDITSD_HTTP__JWKS_URL for users"
)
_NO_SERVERS = "no server may ask here: set CREDITSD_HTTP__API_KEYS"
_NO_USERS = "users cannot sign in here: set CREDITSD_HTTP__JWT_SECRET or CREDITSD_HTTP__JWKS_URL"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller: a server, which may read everyone, or with `user_id` that user alone."""

    name: str
    """For limits and logs; nobody else has it, and it is no secret."""
    user_id: str | None = None
    expires_at: float | None = None
    """In seconds since 1970; what is open then must be closed."""
    admitted_by: object = None
    """The key, or the verifier of its token, by which it was let in."""


class Auth:
    """Checks API keys and tokens, and rate-limits each caller. Every refusal is counted and says what to do."""

    def __init__(
        self, settings: HttpSettings, hub: Hub, metrics: HttpMetrics, timings: KeyTimings | None = None
    ) -> None:
        self._hub = hub
        self._metrics = metrics
        self._timings = timings or KeyTimings()
        self._settings = settings
        self._verifier = _verifier(settings, self._timings)
        self._servers = ApiKeys(settings)
        self._users = RateLimit(settings.requests_per_second_per_caller)

    async def follow(self, settings: HttpSettings) -> None:
        """Let in by other keys from now on."""
        before, self._settings = self._settings, settings
        self._servers.follow(settings)
        self._users.limit(settings.requests_per_second_per_caller)
        if settings.tokens != before.tokens:
            gone = self._verifier
            self._verifier = _verifier(settings, self._timings, gone)
            if gone is not None:
                await gone.close(self._verifier)

    def admits(self, caller: Caller) -> bool:
        """Whether what a caller was let in by still lets anybody in."""
        return caller.admitted_by in self._servers or caller.admitted_by is self._verifier

    def taken_away(self) -> RequestRefused:
        """Make the refusal of one who waits for an answer, and whom we admit no more."""
        self._metrics.auth_failures.labels("401").inc()
        return RequestRefused.unauthorized("this key or token is accepted here no more: get another", "invalid_token")

    async def close(self) -> None:
        """Close the connection to the JWKS endpoint."""
        if self._verifier is not None:
            await self._verifier.close()

    async def caller(self, request: web.Request) -> Caller:
        """Authenticate a request. Raises RequestRefused: 401 for an unknown credential, 429 above the caller's rate."""
        try:
            caller = await self._identified(request)
        except RequestRefused as refused:
            self._metrics.auth_failures.labels(str(refused.status)).inc()
            raise
        wait = self._limit(caller).take(caller.name)
        if wait:
            self._metrics.limited.labels("caller").inc()
            raise RequestRefused.later(429, "too many requests of this caller: slow down", wait)
        return caller

    def count(self, caller: Caller, requests: int) -> None:
        """Count a request of a caller as so many more, once it is seen how much it asks for."""
        self._limit(caller).owe(caller.name, requests)

    def is_server(self, request: web.Request) -> bool:
        """Tell whether a request carries an API key that is known here."""
        try:
            return self._servers.find(sent(request)) is not None
        except RequestRefused:
            return False

    async def server(self, request: web.Request) -> Caller:
        """Authenticate a server. Raises RequestRefused: 403 for a user, and where no API key is configured."""
        if not self._servers:
            raise self._denied(_NO_SERVERS)
        caller = await self.caller(request)
        if caller.user_id is not None:
            raise self._denied("this is for servers, with an API key; a user's token opens /v1/me/credits")
        return caller

    async def user(self, request: web.Request) -> tuple[Caller, str]:
        """Authenticate a user; return the caller and their id as it is stored.

        Raises RequestRefused: 403 for a server, and where no token can be verified.
        """
        if self._verifier is None:
            raise self._denied(_NO_USERS if self._servers else _NOTHING_OPENS)
        caller = await self.caller(request)
        if caller.user_id is None:
            raise self._denied("an API key belongs to no user: ask /v1/users/{id}/credits")
        return caller, self._own(caller.user_id)

    async def reader(self, request: web.Request, user_id: str) -> tuple[Caller, str]:
        """Authorize the read of one user's credits; return the caller and that user's id as it is stored.

        Raises RequestRefused: 403 for another user's, 400 for what cannot be a user's id.
        """
        if self._verifier is None and not self._servers:
            raise self._denied(_NOTHING_OPENS)
        caller = await self.caller(request)
        try:
            asked = self._hub.canonical(user_id)
        except InputError as error:
            if caller.user_id is None:
                raise RequestRefused(400, str(error)) from None
            raise self._denied("this token reads its own user's credits alone") from None
        if caller.user_id is not None and self._own(caller.user_id) != asked:
            raise self._denied("this token reads its own user's credits alone")
        return caller, asked

    def _limit(self, caller: Caller) -> RateLimit:
        key = caller.admitted_by
        return self._servers.server(key).limit if isinstance(key, bytes) else self._users

    async def _identified(self, request: web.Request) -> Caller:
        credential = sent(request)
        key = self._servers.find(credential)
        if key is not None:
            return Caller(self._servers.server(key).name, admitted_by=key)
        verifier = self._verifier
        if verifier is None or "X-API-Key" in request.headers:
            raise RequestRefused.unauthorized("this API key is not known here", "invalid_token")
        token = await verifier.verify(credential)
        return Caller(f"user {token.subject}", token.user_id, token.expires_at, admitted_by=verifier)

    def _own(self, user_id: str) -> str:
        try:
            return self._hub.canonical(user_id)
        except InputError as error:
            raise self._denied(f"this token's {self._settings.jwt_user_claim} is none of our users: {error}") from None

    def _denied(self, error: str) -> RequestRefused:
        self._metrics.auth_failures.labels("403").inc()
        return RequestRefused(403, error)


def sent(request: web.Request) -> str:
    """Extract the API key or token from the headers, never from the URL: that ends up in logs and histories."""
    keys = request.headers.getall("X-API-Key", [])
    tokens = request.headers.getall("Authorization", [])
    if len(keys) > 1 or (not keys and len(tokens) > 1):
        raise RequestRefused(400, "send one Authorization header, or one X-API-Key")
    if keys:
        return keys[0].strip()
    scheme, _, token = (tokens[0] if tokens else "").partition(" ")
    if not tokens or scheme.lower() != "bearer" or not token.strip():
        raise RequestRefused.unauthorized("send a key or token: Authorization: Bearer …, or X-API-Key: …")
    return token.strip()


def _verifier(settings: HttpSettings, timings: KeyTimings, before: JwtVerifier | None = None) -> JwtVerifier | None:
    if not settings.jwt_secret and not settings.jwks_url:
        return None
    from creditsd.http.jwt import JwtVerifier  # noqa: PLC0415  8 MB of cryptography, where no user signs in

    return JwtVerifier(settings, timings, before)
