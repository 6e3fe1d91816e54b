"""The kinds of credits that the demo counts: all as one, or each by an installation of its own, on the same table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from creditsd.config.types import DEFAULT_SCHEMA


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: what it is called on the screen, the installation that counts it, and which rows are of it."""

    name: str
    schema: str
    where: str


EVERYTHING: Sequence[Kind] = (Kind("", DEFAULT_SCHEMA, ""),)
KINDS: Sequence[Kind] = (
    Kind("plans", DEFAULT_SCHEMA, "plan_type = 'subscription'"),
    Kind("packs", f"{DEFAULT_SCHEMA}_packs", "plan_type = 'one_time'"),
)


def kinds(number: int) -> Sequence[Kind]:
    """Return so many kinds, one or two."""
    return EVERYTHING if number == 1 else KINDS[:number]
