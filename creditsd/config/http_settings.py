"""The settings of the HTTP surface: where it listens, who may ask, and how much."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from creditsd.config.types import (
    SECTION,
    ApiKey,
    Claim,
    HttpUrl,
    Listen,
    Network,
    Origin,
    Rate,
    Seconds,
    SinkName,
    Word,
    key_digest,
    parse_claim,
)

# What is shorter can be guessed.
SECRET_BYTES = 32  # of a secret for HS256: as long as its digest
KEY_BYTES = 16


class _Section(BaseModel):
    model_config = SECTION


class TokenSettings(_Section):
    """Who is believed to be signed in."""

    jwt_secret: Annotated[str, Field(repr=False)] = ""
    jwks_url: HttpUrl = ""
    jwt_audience: str = ""
    jwt_issuer: str = ""
    jwt_authorized_parties: list[Word] = []
    jwt_user_claim: Claim = "sub"
    jwt_leeway_seconds: Annotated[float, Field(ge=0, le=600)] = 10.0

    @property
    def user_claim(self) -> tuple[str, ...]:
        """The steps into a token's claims that lead to the user's id."""
        return parse_claim(self.jwt_user_claim)


class ServerSettings(_Section):
    """A server that may read everyone, with a limit of its own."""

    name: SinkName
    key: Annotated[ApiKey, Field(repr=False)]
    requests_per_second: Rate | None = None  # None: as every server


class LimitSettings(_Section):
    """How much may be asked, and listened to; a rate of 0 limits nobody."""

    max_streams: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    max_streams_per_user: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    requests_per_second_per_address: Rate = 200.0
    requests_per_second_per_caller: Rate = 100.0
    requests_per_second_per_server: Rate = 1000.0


class HttpSettings(LimitSettings, TokenSettings):
    """The HTTP surface; without a key or a JWT setting it tells nobody's credits."""

    listen: Listen = "127.0.0.1:8321"
    api_keys: Annotated[list[ApiKey], Field(repr=False)] = []
    servers: Annotated[list[ServerSettings], Field(repr=False)] = []
    operator_keys: Annotated[list[ApiKey], Field(repr=False)] = []
    cors_origins: list[Origin] = []
    heartbeat_seconds: Seconds = 15.0
    trusted_proxies: list[Network] = []
    trusted_header: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For"
    metrics_public: bool = True

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
