"""How a user's id is written where it is part of a subject, or the key of a bucket."""

from __future__ import annotations

SUBJECT_BYTES = 2000  # a server ends the connection at 4 096 bytes of subject, reply and command together
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def encode_user(user_id: str) -> str:
    """Write a user id as one token of a subject and as a key of a bucket.

    Letters, digits, - and _ stay; any other byte of its UTF-8 becomes = and two hexadecimal digits. An empty
    id, which no token may be, becomes a single =.
    """
    return "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in user_id.encode()) or "="
