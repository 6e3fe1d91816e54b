"""Makes TLS contexts: the certificates that are trusted, and the client's own."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from creditsd.domain.errors import ConfigError

_CERTIFICATE = re.compile(r"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----.*?-----END \1-----", re.DOTALL)


def certificates(ca: str) -> str:
    """Return the certificates of a bundle without what stands between them, which may be in any language.

    Raises ValueError where there is none.
    """
    found = "\n".join(each.group() for each in _CERTIFICATE.finditer(ca))
    if not found:
        raise ValueError("no certificate")
    return found


def context(whose: str, ca: str, client_certificate: Path | None) -> ssl.SSLContext:
    """Trust what signed `ca` (PEM; the system's own where it is empty). Raises ConfigError, which begins with whose."""
    try:
        made = ssl.create_default_context(cadata=certificates(ca) if ca else None)
    except (ssl.SSLError, ValueError, TypeError):  # TypeError: a letter that is not ASCII within a certificate
        raise ConfigError(f"{whose}: ca is not a certificate in PEM") from None
    # Debian's Python leaves that to OpenSSL's configuration, which may ask for less.
    made.minimum_version = max(made.minimum_version, ssl.TLSVersion.TLSv1_2)
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
