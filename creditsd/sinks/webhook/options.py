"""What can be set for a webhook beside its url."""

from __future__ import annotations

from typing import Any, Self

from pydantic import (
    BaseModel,
    Field,
    FilePath,
    IPvAnyNetwork,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from creditsd.domain.events import Type
from creditsd.sinks.webhook import headers, schedule


class Reach(BaseModel, extra="forbid"):
    """How the endpoint is reached, and how patiently."""

    allow_cidrs: list[IPvAnyNetwork] = []
    proxy: str = Field(default="", repr=False)
    ca: str = ""
    client_certificate: FilePath | None = None
    timeout_seconds: PositiveFloat = Field(default=15.0, allow_inf_nan=False)
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)


class Options(Reach):
    """What can be set beside the url."""

    secret: str = Field(default="", repr=False)
    secrets: list[str] = Field(default=[], repr=False)
    events: list[Type] = Field(default=["credits.updated"], min_length=1)
    headers: dict[str, str] = Field(default={}, repr=False)
    concurrency: PositiveInt = 64
    batch: int | None = Field(default=None, ge=2, le=1000)
    per_second: float | None = Field(default=None, ge=0.01, le=1_000_000, allow_inf_nan=False)
    schedule: list[float] | None = None
    log_attempts: bool = True
    disable_after_seconds: PositiveFloat | None = Field(default=None, allow_inf_nan=False)

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
