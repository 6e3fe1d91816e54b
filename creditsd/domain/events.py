"""What happens to a user: a new total, credits that run low or out or come back, a plan that ends or soon will."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, get_args

Type = Literal[
    "credits.updated", "credits.depleted", "credits.low", "credits.recovered", "plan.expired", "plan.expiring_soon"
]
TYPES: tuple[Type, ...] = get_args(Type)
"""In the order in which a user's are told."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a user, named by the version that brought it; `facts` are told beside the total."""

    type: Type
    version: int
    facts: Mapping[str, Any] = field(default_factory=dict)


def standing(version: int, events_json: str | None) -> tuple[Event, ...]:
    """Return what has happened and still stands of a total as it is stored, in the order of TYPES.

    Of the credits' levels it is the newest one: who is out of credits is no longer told of having had few.
    """
    stored = {} if events_json is None else json.loads(events_json, parse_float=Decimal)
    stored.setdefault("credits.updated", {"version": version})
    found = [
        Event(each, stored[each]["version"], {name: fact for name, fact in stored[each].items() if name != "version"})
        for each in TYPES
        if each in stored
    ]
    levels = [each.version for each in found if each.type in _LEVELS]
    return tuple(each for each in found if each.type not in _LEVELS or each.version == max(levels))


_LEVELS = ("credits.depleted", "credits.low", "credits.recovered")
