"""Whose totals are delivered: one installation among all there are."""

from __future__ import annotations

from typing import NamedTuple


class Owner(NamedTuple):
    """An installation by its schema, and by the database it is in: `SYSTEM_IDENTIFIER.OID`.

    A database copied by files or by snapshot has the identity of the one it was copied from.
    """

    schema: str
    database: str
