"""What can be set for NATS beside the url, and what the url says."""

from __future__ import annotations

from pydantic import BaseModel, Field, FilePath, PositiveFloat, model_validator

from creditsd.brokers.servers import authority


class NatsOptions(BaseModel, extra="forbid"):
    """What can be set beside the url."""

    stream: str = Field(default="CREDITS", pattern=r"^[^\s.*>/\\]+$")
    subject: str = Field(default="credits", pattern=r"^[^\s.*>]+(\.[^\s.*>]+)*$")
    bucket: str = Field(default="", pattern=r"^[A-Za-z0-9_-]*$")
    token: str = ""
    creds: str = ""
    nkey: str = ""
    ca: str = ""
    client_certificate: FilePath | None = None
    timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_place_and_one_login(self) -> NatsOptions:
        given = self.model_fields_set
        if self.bucket and given & {"stream", "subject"}:
            raise ValueError("totals go to a bucket or to a stream: keep bucket, or stream and subject")
        if sum(map(bool, (self.token, self.creds, self.nkey))) > 1:
            raise ValueError("token, creds and nkey exclude each other: keep one")
        return self


def parsed(url: str) -> tuple[list[str], dict[str, str]]:
    """Split a url into servers and login; user without password is a token, as everywhere with NATS.

    Raises ValueError, which may quote the password.
    """
    found = authority(url.partition("://")[2].removesuffix("/"), 4222)
    servers = list(map(str, found.servers))
    user, password = found.login
    if not user and not password:
        return servers, {}
    return servers, {"token": user} if password is None else {"user": user, "password": password}
