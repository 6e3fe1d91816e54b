"""NATS: connecting, logging in, and what is found under a subject of JetStream."""

from __future__ import annotations

from creditsd.brokers.nats.broker import NatsBroker
from creditsd.brokers.nats.connection import NatsConnection
from creditsd.brokers.nats.failures import FAILURES, User
from creditsd.brokers.nats.options import NatsOptions, parsed
from creditsd.brokers.nats.subjects import SUBJECT_BYTES, encode_user
from creditsd.brokers.tls import context
from creditsd.domain.errors import ConfigError

__all__ = ["FAILURES", "SUBJECT_BYTES", "NatsBroker", "NatsConnection", "NatsOptions", "User", "encode_user", "reach"]


def reach(user: User, url: str, options: NatsOptions) -> NatsBroker:
    """Read a `nats:` or `nats+tls:` url, several servers separated by commas; connects nothing. Raises ConfigError."""
    scheme = url.split(":", 1)[0].lower()
    if scheme not in ("nats", "nats+tls"):
        raise ConfigError(f"{user.name}: {scheme} is not supported: use nats or nats+tls")
    try:
        servers, login = parsed(url)
    except ValueError:  # its text may quote the url, and with it the password
        raise ConfigError(
            f"{user.name}: the url is not {scheme}://[user:password@]host[:port][,host[:port] …]; "
            "special characters in the password must be percent-encoded"
        ) from None
    if login and (options.token or options.creds or options.nkey):
        raise ConfigError(f"{user.name}: the url has a login, and so do the options: keep one")
    return NatsBroker(
        user,
        servers,
        login,
        context(user.name, options.ca, options.client_certificate) if scheme == "nats+tls" else None,
        options,
    )
