"""A total before, as PostgreSQL sends it."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal

from psycopg.adapt import PyFormat, Transformer

_BEFORE = datetime(2026, 11, 22, 9, tzinfo=UTC)


def record(amount: Decimal | str, *, version: int = 1) -> bytes:
    """Return the record of a total of so many credits that was all else but a plan."""
    fields = [version, _BEFORE, Decimal(amount), "active", "none", True, False, *(None,) * 5]
    transformer = Transformer()
    parts = [struct.pack("!i", len(fields))]
    for field in fields:
        if field is None:
            parts.append(struct.pack("!Ii", 25, -1))
            continue
        dumper = transformer.get_dumper(field, PyFormat.BINARY)
        written = bytes(dumper.dump(field) or b"")
        parts.append(struct.pack("!Ii", dumper.oid or 25, len(written)) + written)
    return b"".join(parts)
