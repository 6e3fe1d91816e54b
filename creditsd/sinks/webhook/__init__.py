"""Webhooks by the Standard Webhooks specification: one signed POST for each event of a user."""

from __future__ import annotations

import contextlib

import structlog
import yarl

from creditsd.brokers import tls
from creditsd.domain.errors import ConfigError
from creditsd.sinks.webhook import signing
from creditsd.sinks.webhook.endpoint import Endpoint
from creditsd.sinks.webhook.options import Options
from creditsd.sinks.webhook.sink import WebhookSink
from creditsd.sinks.webhook.ssrf_guard import SsrfGuard, written_address

__all__ = ["Options", "create"]

log = structlog.get_logger()


def create(name: str, url: str, options: Options) -> WebhookSink:
    """Make the sink for a `webhook+https:` or `webhook+http:` url. Raises ConfigError."""
    scheme, _, rest = url.partition(":")
    transport = scheme.lower().removeprefix("webhook+")
    if transport not in ("https", "http"):
        raise ConfigError(f"sink {name}: the url must begin with webhook+https:// or webhook+http://")
    target = _target(f"{transport}:{rest}")
    if target is None:
        raise ConfigError(f"sink {name}: the url is not webhook+https://host[:port]/path")
    if not options.signed_with:
        raise ConfigError(f"sink {name}: {signing.required()}")
    try:
        signers = [signing.signer(secret) for secret in options.signed_with]
        if options.proxy:
            _check_proxied(target, options)
        _check_login(target, options)
    except ValueError as error:
        raise ConfigError(f"sink {name}: {error}") from None
    trust = tls.wanted(f"sink {name}", options.ca, options.client_certificate)
    if any(each.weak for each in signers):
        log.warning("webhook.secret_short", sink=name, wanted_bytes=signing.SECRET_BYTES)
    return WebhookSink(name, Endpoint(target, options, trust), signers, options)


def _target(url: str) -> yarl.URL | None:
    with contextlib.suppress(ValueError):  # its text would quote the url, and with it the password
        target = yarl.URL(url)
        if target.host and target.port:
            return target
    return None


def _check_login(target: yarl.URL, options: Options) -> None:
    """Refuse what could not be sent: two logins, or a certificate that nobody would ask for."""
    if target.user is not None and any(name.lower() == "authorization" for name in options.headers):
        raise ValueError("the url has a login and headers an Authorization: keep one of them")
    if options.client_certificate is not None and target.scheme != "https":
        raise ValueError("client_certificate needs webhook+https://: without TLS nobody asks for it")


def _check_proxied(target: yarl.URL, options: Options) -> None:
    """Check an address in the url against allow_cidrs: a proxy resolves the names, so that is all we can guard."""
    proxy = _target(options.proxy)
    if proxy is None or proxy.scheme not in ("http", "https"):
        raise ValueError("proxy is not http://[user:password@]host:port")
    host = written_address(target.host or "")
    if host is None:
        return
    try:
        SsrfGuard(options.allow_cidrs).check(host)
    except PermissionError as error:
        raise ValueError(error.strerror) from None
