"""Makes TLS contexts: the certificates that are trusted, and the client's own."""

from __future__ import annotations

import ssl
from pathlib import Path

from creditsd.domain.errors import ConfigError


def context(whose: str, ca: str, client_certificate: Path | None) -> ssl.SSLContext:
    """Trust what signed `ca` (PEM; the system's own where it is empty). Raises ConfigError, which begins with whose."""
    try:
        made = ssl.create_default_context(cadata=ca or None)
    except (ssl.SSLError, ValueError):
        raise ConfigError(f"{whose}: ca is not a certificate in PEM") from None
    if client_certificate is not None:
        try:
            # Without a password OpenSSL would ask for one at the terminal, where a key needs it.
            made.load_cert_chain(client_certificate, password="")
        except (ssl.SSLError, OSError):
            line = "client_certificate is not a PEM file of certificate and key, not encrypted"
            raise ConfigError(f"{whose}: {line}") from None
    return made


def wanted(whose: str, ca: str, client_certificate: Path | None = None) -> ssl.SSLContext | None:
    """Make a context where either is given, else None: the client's own will do. Raises ConfigError."""
    return context(whose, ca, client_certificate) if ca or client_certificate is not None else None
