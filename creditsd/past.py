"""What a total was before: a record as PostgreSQL sends it, read only where somebody asks."""

from __future__ import annotations

from typing import Any

from psycopg.postgres import types
from psycopg.types.composite import RecordBinaryLoader

# The fields of creditsd.past, under their public keys.
_KEYS = (
    "version",
    "updated_at",
    "credits",
    "membershipStatus",
    "planType",
    "canBuy",
    "hasEverHadSubscription",
    "subscription_id",
    "membership",
    "expires_at",
)

_loader = RecordBinaryLoader(types["record"].oid)


def read(record: bytes) -> dict[str, Any]:
    """Return a total under its public keys, but for user_id and message; credits are a Decimal, times are aware."""
    return dict(zip(_KEYS, _loader.load(record), strict=True))
