"""A user's id as people and tokens write it, in the one form the database stores it in."""

from __future__ import annotations

import re

from creditsd.domain.errors import InputError

LONGEST_BYTES = 2600  # more may not fit into an index page of PostgreSQL's, beside a transaction's number

_UUID = re.compile(r"([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})", re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_BITS = {"smallint": 16, "integer": 32, "bigint": 64}
_SHOWN = 60


def canonical(user_id_type: str, user_id: str) -> str:
    """Return the id as `user_id::text` gives it, so that two ids are one user exactly if they are equal.

    Takes PostgreSQL's name of the column's type. Stricter than PostgreSQL itself, which also reads spaces and braces.
    Raises InputError for what cannot be an id.
    """
    kind = user_id_type.partition("(")[0]
    if kind == "uuid":
        match = _UUID.fullmatch(user_id)
        if match is not None:
            return "-".join(match.groups()).lower()
    elif kind in _BITS:
        if _WHOLE.fullmatch(user_id) and -(1 << _BITS[kind] - 1) <= int(user_id) < 1 << _BITS[kind] - 1:
            return str(int(user_id))
    elif user_id and "\0" not in user_id and _fits(user_id):
        # The padding of a character(n) is no part of its value.
        return user_id.rstrip(" ") if kind in ("bpchar", "character") else user_id
    shown = user_id if len(user_id) <= _SHOWN else f"{user_id[:_SHOWN]}…"
    raise InputError(f"{shown!r} is not a user's id here: the table's are {user_id_type}")


def _fits(text: str) -> bool:
    try:
        return len(text.encode()) <= LONGEST_BYTES
    except UnicodeEncodeError:  # half a surrogate pair
        return False
