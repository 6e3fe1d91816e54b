"""The settings of `creditsd serve`: which broker it hears of totals from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from creditsd.config.types import FeedUrl, Seconds, Section


class ServeSettings(Section):
    """Where `creditsd serve` hears of totals: what a sink publishes to, with the options that sink has."""

    feed: FeedUrl = ""
    """where the totals come from: the url of the `redis` or `nats` sink of `creditsd run`, any form of it"""
    user_id_type: Literal["text", "uuid", "bigint"] = "text"
    """what your table's ids are, so that one user has one id however it is written"""
    sweep_seconds: Seconds = 60.0
    """how often whoever is listened to is read again, whatever was heard. It bounds what a broken link inside a cluster
    can hide"""
    prefix: str = "credits:"
    """Redis: the sink's `prefix`"""
    stream: str = "CREDITS"
    """NATS: the sink's `stream`"""
    subject: str = "credits"
    """NATS: the sink's `subject`"""
    bucket: str = ""
    """NATS: the sink's `bucket`, instead of the two"""
    token: Annotated[str, Field(repr=False)] = ""
    """NATS: a token, where the url has no login"""
    creds: Annotated[str, Field(repr=False)] = ""
    """NATS: the text of a credentials file, so mostly as `creds_file`"""
    nkey: Annotated[str, Field(repr=False)] = ""
    """NATS: the seed of an nkey"""
    ca: str = ""
    """TLS: the certificate that signed the server's, in PEM, so mostly as `ca_file`"""
    client_certificate: str = ""
    """NATS: the path of a PEM file with our certificate and key"""
    sentinel_username: str = ""
    """Redis: how to log in to the sentinels"""
    sentinel_password: Annotated[str, Field(repr=False)] = ""
    """Redis: and with which password"""

    def given(self) -> dict[str, Any]:
        """Return the options that were set; which of them the feed has, it says itself."""
        own = {"feed", "user_id_type", "sweep_seconds"}
        return {name: getattr(self, name) for name in self.model_fields_set - own}
