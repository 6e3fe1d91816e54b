"""What totals are made of beside the table and our functions, as one text: where it differs, everyone is recomputed."""

from __future__ import annotations

import json
from collections.abc import Mapping

# What changes no total, only what is done later.
_LATER = ("history_days", "empty_seconds")
_KEYS = ("can_buy", "expire_empty", "events")


def written(policy: Mapping[str, str]) -> str:
    """Write a policy as the reader notes it."""
    return " ".join(f"{key}={value}" for key, value in policy.items() if key not in _LATER)


def differing(noted: str, policy: Mapping[str, str]) -> list[str]:
    """Name the settings that differ from those noted, with the value that was noted."""
    before, now = _values(noted), _values(written(policy))
    return [f"{key} = {before.get(key, 'unset')}" for key in {**now, **before} if before.get(key) != now.get(key)]


def _values(text: str) -> dict[str, str]:
    """Take a policy apart into its settings; `events` comes last, and alone may hold spaces."""
    said = dict(part.partition("=")[::2] for part in text.split(" ", len(_KEYS) - 1))
    events = json.loads(said.pop("events", "{}"))
    return {**said, **{f"events.{name}": str(value) for name, value in events.items()}}
