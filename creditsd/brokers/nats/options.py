"""What can be set for NATS beside the url, and what the url says."""

from __future__ import annotations

from pydantic import BaseModel, Field, FilePath, PositiveFloat, model_validator

from creditsd.brokers.servers import authority


class NatsOptions(BaseModel, extra="forbid"):
    """What can be set beside the url."""

    stream: str = Field(default="CREDITS", pattern=r"^[^\s.*>/\\]+$")
    """the stream's name"""
    subject: str = Field(default="credits", pattern=r"^[^\s.*>]+(\.[^\s.*>]+)*$")
    """what begins each subject"""
    bucket: str = Field(default="", pattern=r"^[A-Za-z0-9_-]*$")
    """a key-value bucket in place of the stream"""
    token: str = ""
    """how to log in, where the url does not say: a token"""
    creds: str = ""
    """or a `.creds` file, so mostly as `creds_file`"""
    nkey: str = ""
    """or the seed of an nkey"""
    ca: str = ""
    """with TLS: the certificate, in PEM, that signed the server's, instead of the system's"""
    client_certificate: FilePath | None = None
    """the path of a PEM file with our certificate and its key"""
    timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    """for each answer"""
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    """to connect and log in"""

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
