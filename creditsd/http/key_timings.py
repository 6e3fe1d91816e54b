"""How long the keys that verify users' tokens are used; apart from what fetches them, whose library few need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyTimings:
    """How long fetched verification keys (JWKS) are used, and how often they are fetched.

    They are read again after `fresh_seconds`; while their endpoint is down they are believed for `stale_seconds`, so a
    withdrawn key lives no longer. Between two readings lie `retry_seconds`, whatever tokens come: strangers can make up
    any key's name.
    """

    fresh_seconds: float = 300.0
    stale_seconds: float = 3600.0
    retry_seconds: float = 10.0
    fetch_seconds: float = 5.0
