"""What can be set for a webhook beside its url."""

from __future__ import annotations

from typing import Any, Self

from pydantic import (
    BaseModel,
    Field,
    FilePath,
    IPvAnyNetwork,
    PositiveFloat,
    field_validator,
    model_validator,
)

from creditsd.domain.events import Type
from creditsd.sinks.webhook import headers, schedule


class Reach(BaseModel, extra="forbid"):
    """How the endpoint is reached, and how patiently."""

    allow_cidrs: list[IPvAnyNetwork] = []
    """networks that may be reached although they are not public"""
    proxy: str = Field(default="", repr=False)
    """`http://[user:password@]host:port`: every request goes through it, https as a tunnel"""
    ca: str = ""
    """certificates in PEM, trusted instead of the system's"""
    client_certificate: FilePath | None = None
    """the path of a PEM file of our certificate and its key, for endpoints that ask for one; read at the start and
    at a [reload](configuration.md#reloading)"""
    timeout_seconds: PositiveFloat = Field(default=15.0, allow_inf_nan=False)
    """for the whole request"""
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    """to connect"""


class Options(Reach):
    """What can be set beside the url."""

    secret: str = Field(default="", repr=False)
    """required: make one with `echo "whsec_$(openssl rand -base64 32)"`, or a key pair with `echo "whsk_$(openssl
    rand -base64 32)"`. What is not base64 is an error at the start"""
    secrets: list[str] = Field(default=[], repr=False)
    """more of them, for rotation; `secrets_file` has one a line"""
    events: list[Type] = Field(default=["credits.updated"], min_length=1)
    """which [events](#events) to send; a total that brings none of them costs no request"""
    headers: dict[str, str] = Field(default={}, repr=False)
    """sent with every request beside ours: a table of names and values, or by `headers_file` one `Name: value` a
    line; a value alone may be a file's, too, with `_file` behind its name"""
    concurrency: int = Field(default=64, ge=1, le=10_000)
    """requests at once"""
    batch: int | None = Field(default=None, ge=2, le=1000)
    """up to so many users' totals in [one request](#batches); not beside other events"""
    per_second: float | None = Field(default=None, ge=0.01, le=1_000_000, allow_inf_nan=False)
    """requests a second at most, evenly spaced: 10 is one every tenth of a second. Whoever waits for a turn is told
    their newest total (with `mode = "every"`, each step). An ending daemon waits for no turn: who has not had theirs
    is told by the next one, and has lost no try"""
    schedule: list[float] | None = None
    """the pause after each failed try of a total, give or take a fifth, as 1 to 50 of `"5s"`, `"5m"`, `"2h"`, `"1d"`
    or seconds, each from 1 s to 30 days; after the last one a total is a dead letter. Without it, the
    specification's: `["5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"]`"""
    log_attempts: bool = True
    """whether each request is written down for a day, for [`creditsd deliveries log`](operations.md#deliveries)"""
    disable_after_seconds: PositiveFloat | None = Field(default=None, allow_inf_nan=False)
    """disables the sink when for so long something was tried and nothing has arrived. Counts over restarts, but not
    the time in which nothing was tried: without a daemon, without PostgreSQL, paused; without it, never"""

    @field_validator("secrets", mode="before")
    @classmethod
    def _one_a_line(cls, given: Any) -> Any:
        """Take the text of a file, as `secrets_file` gives it, as one secret a line."""
        return [line.strip() for line in given.splitlines() if line.strip()] if isinstance(given, str) else given

    @field_validator("headers", mode="before")
    @classmethod
    def _a_file_of_them(cls, given: Any) -> Any:
        return headers.parsed(given)

    @field_validator("schedule", mode="before")
    @classmethod
    def _in_seconds(cls, given: Any) -> Any:
        return schedule.seconds(given)

    @field_validator("headers")
    @classmethod
    def _may_be_sent(cls, given: dict[str, str]) -> dict[str, str]:
        return headers.checked(given)

    @model_validator(mode="after")
    def _totals_alone_are_batched(self) -> Self:
        if self.batch is not None and self.events != ["credits.updated"]:
            raise ValueError("batch is of totals alone: give other events a sink of their own")
        return self

    @property
    def signed_with(self) -> list[str]:
        """Every secret that was given, in the order of the signatures."""
        return [each for each in (self.secret, *self.secrets) if each]
