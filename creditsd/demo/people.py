"""Who lives in the demo, and what they have bought: the same people every time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

SEED = 8321
USERS = 300

YOU = UUID("00000000-0000-4000-8000-000000000001")
"""Left alone by the traffic, and the owner of row 1: whatever happens to this total, the visitor did."""

SUBSCRIPTIONS = {"Basic": 100, "Pro": 500, "Team": 2000}
PACKS = {"Pack S": 50, "Pack M": 200, "Pack L": 1000}

_FIRST = (  # noqa: SIM905  names read best as names
    "Ada Amir Anna Ben Chiara Chloe Daniel Diego Elif Emma Esra Felix Finn Grace Hana Hugo Ines Iris Ivan Jana Jonas "
    "Kai Kofi Lara Leo Lina Luca Maja Marta Mei Mila Nadia Noah Nora Olga Omar Oscar Paul Petra Rafael Rosa Samir "
    "Sara Sofia Tariq Theo Tom Uma Vera Yuki Zoe"
).split()
_LAST = (  # noqa: SIM905
    "Adeyemi Ahmed Bauer Becker Bianchi Costa Diaz Dubois Eriksen Fischer Garcia Haddad Hansen Ito Jensen Kaya Keller "
    "Kim Kowalski Larsen Lopez Mensah Meyer Moreau Mori Novak Okafor Patel Petrov Reyes Rossi Sato Silva Singh Smith "
    "Tanaka Torres Virtanen Weber Wong Yilmaz Zhang"
).split()


@dataclass(frozen=True, slots=True)
class Purchase:
    """A row of user_credits, with its dates as days from today."""

    credits: int
    status: str
    plan_type: str
    membership: str
    subscription_id: str | None
    ends_in_days: int | None
    bought_days_ago: int


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an id, a name and a history."""

    user_id: UUID
    name: str
    purchases: tuple[Purchase, ...]


def population() -> list[Person]:
    """Make everyone; the visitor comes first, so that row 1 is theirs."""
    chance = random.Random(SEED)
    names = chance.sample([f"{first} {last}" for first in _FIRST for last in _LAST], USERS)
    you = Purchase(
        credits=250,
        status="active",
        plan_type="subscription",
        membership="Pro",
        subscription_id="sub_you",
        ends_in_days=30,
        bought_days_ago=0,
    )
    return [Person(YOU, "You", (you,)), *(_person(chance, name) for name in names)]


def _person(chance: random.Random, name: str) -> Person:
    user_id = UUID(int=chance.getrandbits(128), version=4)
    return Person(user_id, name, tuple(_purchases(chance, user_id)))


def _purchases(chance: random.Random, user_id: UUID) -> Iterator[Purchase]:
    """Make a plan that runs, ended or was cancelled; packs, in use or used up; and people who have nothing any more."""
    fate = chance.random()
    if fate < 0.75:
        plan = chance.choices(list(SUBSCRIPTIONS), weights=(5, 4, 1))[0]
        ended, cancelled = fate > 0.66, 0.6 < fate <= 0.66
        yield Purchase(
            credits=0 if cancelled else chance.randint(SUBSCRIPTIONS[plan] // 5, SUBSCRIPTIONS[plan]),
            status="cancelled" if cancelled else "active",
            plan_type="subscription",
            membership=plan,
            subscription_id=f"sub_{user_id.hex[:10]}",
            ends_in_days=-chance.randint(1, 60) if ended else chance.randint(1, 30),
            bought_days_ago=chance.randint(61, 400),
        )
    for _ in range(chance.choices((0, 1, 2), weights=(5, 4, 1))[0] if fate < 0.75 else 1):
        pack = chance.choices(list(PACKS), weights=(4, 3, 1))[0]
        used = chance.random() < 0.2
        yield Purchase(
            credits=0 if used else chance.randint(5, PACKS[pack]),
            status="expired" if used else "active",
            plan_type="one_time",
            membership=pack,
            subscription_id=None,
            ends_in_days=None,
            bought_days_ago=chance.randint(1, 300),
        )
