"""The settings of the HTTP surface: where it listens, who may ask, and how much."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from creditsd.config.types import (
    ApiKey,
    Claim,
    HttpUrl,
    Listen,
    Network,
    Origin,
    Rate,
    Seconds,
    Section,
    SinkName,
    Word,
    key_digest,
    parse_claim,
)

# What is shorter can be guessed.
SECRET_BYTES = 32  # of a secret for HS256: as long as its digest
KEY_BYTES = 16


class TokenSettings(Section):
    """Who is believed to be signed in."""

    jwt_secret: Annotated[str, Field(repr=False)] = ""
    """verifies users' tokens, HS256; at least 32 random bytes"""
    jwks_url: HttpUrl = ""
    """where the keys of users' tokens are published: RSA, elliptic curves and Ed25519. With both, each verifies its own
    kind"""
    jwt_audience: str = ""
    """what a token's `aud` must be, or contain"""
    jwt_issuer: str = ""
    """what its `iss` must be"""
    jwt_authorized_parties: list[Word] = []
    """what its `azp` must be one of, so the applications it may have been given to; empty: any"""
    jwt_user_claim: Claim = "sub"
    """the claim that is the user's id: `org_id`, `app_metadata.org`, … ; for row level security too, so after a change
    of it: `creditsd install`, then restart the daemon"""
    jwt_leeway_seconds: Annotated[float, Field(ge=0, le=600)] = 10.0
    """by how much clocks may differ"""

    @property
    def user_claim(self) -> tuple[str, ...]:
        """The steps into a token's claims that lead to the user's id."""
        return parse_claim(self.jwt_user_claim)


class ServerSettings(Section):
    """A server that may read everyone, with a limit of its own."""

    name: SinkName
    key: Annotated[ApiKey, Field(repr=False)]
    requests_per_second: Rate | None = None  # None: as every server


class LimitSettings(Section):
    """How much may be asked, and listened to; a rate of 0 limits nobody."""

    max_streams: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    """open streams and waiting reads in all; one more is answered 503. It needs as many open files, which the daemon
    asks for itself"""
    max_streams_per_user: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """open streams of one caller for one user, and as many reads that wait; one more ends the oldest"""
    requests_per_second_per_address: Rate = 200.0
    """of one client address, an IPv6 network counting as one; twice as many may come at once; 0 is no limit"""
    requests_per_second_per_caller: Rate = 100.0
    """of one user, the same way"""
    requests_per_second_per_server: Rate = 1000.0
    """of one API key, the same way, from whatever address; of `http.servers` where they say nothing else"""


class HttpSettings(LimitSettings, TokenSettings):
    """The HTTP surface; without a key or a JWT setting it tells nobody's credits."""

    listen: Listen = "127.0.0.1:8321"
    """host and port; empty is off"""
    api_keys: Annotated[list[ApiKey], Field(repr=False)] = []
    """keys of servers that may read everyone's total: plain, or `sha256:` and the digest in hexadecimal"""
    servers: Annotated[list[ServerSettings], Field(repr=False)] = []
    """servers by name, each with a `key` and a [limit of its own](http.md#limits), `requests_per_second`"""
    operator_keys: Annotated[list[ApiKey], Field(repr=False)] = []
    """keys that open [the operator's page](operations.md#the-operators-page), written the same way; without one
    there is none"""
    cors_origins: list[Origin] = []
    """pages that may ask from a browser: origins, [one `*`](http.md#pages-of-other-origins) for a part of one label of
    their host, or `*` for all. Cookies open nothing here"""
    heartbeat_seconds: Seconds = 15.0
    """after so long without news a stream gets a comment"""
    trusted_proxies: list[Network] = []
    """addresses or networks of your proxies: [who the client is](http.md#behind-a-proxy) is what their header says"""
    trusted_header: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For"
    """the header of theirs that is read: this, or `Forwarded`. The other may be a client's own, and is not"""
    metrics_public: bool = True
    """whether `/metrics` answers without an API key"""

    @property
    def address(self) -> tuple[str, int] | None:
        """Where to listen as (host, port), an IPv6 host without its brackets; None is off."""
        host, _, port = self.listen.rpartition(":")
        return (host.removeprefix("[").removesuffix("]"), int(port)) if self.listen else None

    @property
    def tokens(self) -> dict[str, Any]:
        """What users' tokens are verified by."""
        return self.model_dump(include=set(TokenSettings.model_fields))

    @property
    def short_secrets(self) -> dict[str, int]:
        """The keys and secrets that are short enough to be guessed, each with the bytes that are wanted of it."""
        secrets = {
            "http.jwt_secret": ([self.jwt_secret] if self.jwt_secret else [], SECRET_BYTES),
            "http.api_keys": (self.api_keys, KEY_BYTES),
            "http.servers": ([each.key for each in self.servers], KEY_BYTES),
            "http.operator_keys": (self.operator_keys, KEY_BYTES),
        }
        return {
            name: wanted
            for name, (given, wanted) in secrets.items()
            if any(len(each.encode()) < wanted for each in given)
        }

    @model_validator(mode="after")
    def _each_server_is_one(self) -> HttpSettings:
        """Refuse what leaves open whose limit counts; the line never says the key."""
        names = [each.name for each in self.servers]
        taken = {key_digest(key) for key in self.api_keys}
        for each in self.servers:
            if names.count(each.name) > 1:
                raise ValueError(f"two of http.servers are called {each.name!r}: give one of them another name")
            if key_digest(each.key) in taken:
                raise ValueError(f"the key of http.servers {each.name!r} is another's too: give it one of its own")
            taken.add(key_digest(each.key))
        return self
