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
            made.load_cert_chain(client_certificate)
        except (ssl.SSLError, OSError):
            raise ConfigError(f"{whose}: client_certificate is not a PEM file of certificate and key") from None
    return made


def trusting(ca_file: str) -> ssl.SSLContext | None:
    """Trust the certificates in a file in place of the system's; None where no file is named. Raises ValueError."""
    try:
        return ssl.create_default_context(cafile=ca_file) if ca_file else None
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"ca_file {ca_file}: {error.strerror or error}") from None
