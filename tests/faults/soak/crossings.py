"""What a total brings beside itself, by docs/sinks.md: the rules of events once more, apart from the product's SQL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

LOW, RECOVERED, SOON_DAYS = 100, 200, "0.000005"
SOON_MICROSECONDS = 432_000
LEVELS = ("credits.depleted", "credits.low", "credits.recovered")
TYPES = (*LEVELS, "plan.expired", "plan.expiring_soon")
THRESHOLDS = {"credits.depleted": 0, "credits.low": LOW, "credits.recovered": RECOVERED}
SETTINGS = {
    "CREDITSD_EVENTS__LOW_CREDITS": str(LOW),
    "CREDITSD_EVENTS__RECOVERED_CREDITS": str(RECOVERED),
    "CREDITSD_EVENTS__EXPIRING_SOON_DAYS": SOON_DAYS,
}
PLAN = ("planType", "membership", "subscription_id", "expires_at")
MICROSECONDS = 1_000_000


class Told(NamedTuple):
    """One total as a webhook was told it; `follows` is the version before it, None for a user's first."""

    user: str
    version: int
    follows: int | None
    document: Mapping[str, Any]


class Standing(NamedTuple):
    """Where a total leaves its user: the level, what has happened to them and still stands, which ends were told.

    `stands`: type to the version that brought it. `brought`: what this very total did.
    """

    level: str | None
    stands: Mapping[str, int]
    ends: frozenset[str]
    brought: frozenset[str] = frozenset()


def level(amount: float, before: str | None) -> str | None:
    """Return depleted, low or none for so many credits of somebody who stood at a level before."""
    if amount <= 0:
        return "depleted"
    return "low" if amount <= LOW or (before is not None and amount < RECOVERED) else None


def first(told: Told) -> Standing:
    """Return where the first total of a user leaves them: of the events it may bring an end that is near already."""
    end, now = told.document["expires_at"], level(told.document["credits"], None)
    if end is None or not _near(told.document):
        return Standing(now, {}, frozenset())
    if told.document["cause"] == "backfill":
        return Standing(now, {}, frozenset({end}))
    stands = {"plan.expiring_soon": told.version}
    return Standing(now, stands, frozenset({end}), frozenset(stands))


def after(before: Standing, previous: Mapping[str, Any], told: Told) -> Standing:
    """Return where a total leaves its user, after the one before it."""
    now, end = level(told.document["credits"], before.level), told.document["expires_at"]
    brought = {name for name in (_crossing(before.level, now),) if name}
    if (previous["membershipStatus"], told.document["membershipStatus"]) == ("active", "expired"):
        brought.add("plan.expired")
    is_told = end is not None and _near(told.document)
    if is_told and end not in before.ends:
        brought.add("plan.expiring_soon")
    gone = {
        "credits.depleted" if now != "depleted" else "",
        "credits.low" if now is None else "credits.recovered",
        "plan.expired" if told.document["membershipStatus"] != "expired" else "",
        "plan.expiring_soon" if end != previous["expires_at"] else "",
    }
    stands = {name: version for name, version in before.stands.items() if name not in gone}
    ends = before.ends | {end} if is_told else before.ends
    return Standing(now, stands | dict.fromkeys(brought, told.version), ends, frozenset(brought))


def owed(standing: Standing) -> dict[str, int]:
    """Return what still stands and must have been told: of the levels the newest one."""
    newest = max((standing.stands[name] for name in LEVELS if name in standing.stands), default=0)
    return {name: version for name, version in standing.stands.items() if name not in LEVELS or version == newest}


def facts(name: str, previous: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of an event beside the total."""
    if name == "plan.expired":
        return {"plan": {key: previous[key] for key in PLAN}}
    return {"threshold": THRESHOLDS[name]} if name in THRESHOLDS else {}


def microseconds(moment: str) -> int:
    """Read a time of a document, in microseconds since 1970, exactly."""
    read = datetime.fromisoformat(moment)
    return int(read.replace(microsecond=0).timestamp()) * MICROSECONDS + read.microsecond


def _crossing(before: str | None, now: str | None) -> str:
    if now == before:
        return ""
    if now is None:
        return "credits.recovered"
    return "credits.depleted" if now == "depleted" else "credits.low" if before is None else ""


def _near(document: Mapping[str, Any]) -> bool:
    """Whether the plan's end was near when the total was made."""
    until = microseconds(document["expires_at"]) - microseconds(document["updated_at"])
    return until <= SOON_MICROSECONDS
