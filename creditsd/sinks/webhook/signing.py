"""The signatures of Standard Webhooks: `v1` by a shared secret, `v1a` by a key pair."""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECRET_BYTES = 24  # the specification asks for 24 to 64

_SHARED, _PRIVATE, _PUBLIC = "whsec_", "whsk_", "whpk_"
_SEED_BYTES = 32
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_MAKE_SHARED = 'make one with: echo "whsec_$(openssl rand -base64 32)"'
_MAKE_PRIVATE = 'make one with: echo "whsk_$(openssl rand -base64 32)"'


@dataclass(frozen=True, slots=True)
class Shared:
    """HMAC-SHA256 with a secret both sides hold."""

    key: bytes = field(repr=False)
    public_key = None

    @property
    def weak(self) -> bool:
        """Whether the secret is shorter than the specification asks for."""
        return len(self.key) < SECRET_BYTES

    def sign(self, content: bytes) -> str:
        """Return one entry of `webhook-signature`; the content is id, timestamp and body, joined by dots."""
        return "v1," + base64.b64encode(hmac.digest(self.key, content, "sha256")).decode("ascii")


@dataclass(frozen=True, slots=True)
class Private:
    """Ed25519 with a key only we hold; many receivers may verify and none can forge."""

    key: Ed25519PrivateKey = field(repr=False)
    public_key: str
    weak = False

    def sign(self, content: bytes) -> str:
        """Return one entry of `webhook-signature`; the content is id, timestamp and body, joined by dots."""
        return "v1a," + base64.b64encode(self.key.sign(content)).decode("ascii")


Signer = Shared | Private


def signer(secret: str) -> Signer:
    """Read `whsec_…`, `whsk_…` or plain base64, with or without padding. Raises ValueError, never quoting it."""
    text = secret.strip()
    if text.startswith(_PUBLIC):
        raise ValueError(f"the secret is a public key, which signs nothing: {_MAKE_PRIVATE}")
    if text.startswith(_PRIVATE):
        return _private(_decoded(text.removeprefix(_PRIVATE), f"the secret is not whsk_ and base64: {_MAKE_PRIVATE}"))
    return Shared(_decoded(text.removeprefix(_SHARED), f"the secret is not whsec_ and base64: {_MAKE_SHARED}"))


def bare(secret: str) -> str:
    """Return the part of a secret that must not be shown, as it might be quoted."""
    return secret.strip().removeprefix(_SHARED).removeprefix(_PRIVATE).rstrip("=")


def required() -> str:
    """Say what is missing where there is no secret."""
    return f"webhooks are signed and need a secret: {_MAKE_SHARED}"


def _private(key: bytes) -> Private:
    """Take the seed alone, or the seed followed by its public key, as libsodium and Go write it."""
    if len(key) not in (_SEED_BYTES, 2 * _SEED_BYTES):
        raise ValueError(f"the secret is not an ed25519 key of 32 or 64 bytes: {_MAKE_PRIVATE}")
    private = Ed25519PrivateKey.from_private_bytes(key[:_SEED_BYTES])
    public = private.public_key().public_bytes_raw()
    if key[_SEED_BYTES:] not in (b"", public):
        raise ValueError(f"the secret's two halves are not one ed25519 key pair: {_MAKE_PRIVATE}")
    return Private(private, _PUBLIC + base64.b64encode(public).decode("ascii"))


def _decoded(text: str, otherwise: str) -> bytes:
    """Decode strictly: what drops the letters that are not base64 would sign with the rest."""
    unpadded = text.rstrip("=")
    if not _BASE64.fullmatch(text) or len(unpadded) % 4 == 1:
        raise ValueError(otherwise)
    return base64.b64decode(unpadded + "=" * (-len(unpadded) % 4))
