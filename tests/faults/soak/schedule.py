"""Which faults happen in a world, in which order: drawn from a seed, so the same again for the same seed."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from tests.faults.soak.fault import Fault
from tests.faults.soak.kinds import brokers, daemon, network, operator, receivers, server, sessions, strangers, table
from tests.faults.soak.world import Shape, draw

PLACES = {
    "daemon": daemon,
    "sessions": sessions,
    "server": server,
    "network": network,
    "brokers": brokers,
    "receivers": receivers,
    "table": table,
    "operator": operator,
    "strangers": strangers,
}
KINDS: dict[str, Fault] = {fault.name: fault for place in PLACES.values() for fault in place.FAULTS}
PLACE_OF: dict[str, str] = {fault.name: name for name, place in PLACES.items() for fault in place.FAULTS}
ENDS_SESSIONS = {"server", "sessions"}
HAS_NONE = {"daemon", "network"}
TWO_AT_ONCE = 0.1


@dataclass(frozen=True, slots=True)
class Turn:
    """What happens at once, and the seeds of how it does."""

    number: int
    faults: tuple[Fault, ...]
    seed: str

    @property
    def name(self) -> str:
        """What a table calls it."""
        return " + ".join(fault.name for fault in self.faults)


def turns(seed: str, shape: Shape, only: Collection[str] = ()) -> Iterator[Turn]:
    """Draw turns without end. Every kind that is possible comes before one comes again, but for the rare ones."""
    dice = random.Random(f"{seed}:schedule")
    possible, number = _possible(shape, only), 0
    while True:
        deck = [fault for fault in possible for _ in range(_copies(fault, dice))]
        dice.shuffle(deck)
        while deck:
            chosen = [deck.pop()]
            if deck and dice.random() < TWO_AT_ONCE and _together(chosen[0], deck[-1]):
                chosen.append(deck.pop())
            number += 1
            yield Turn(number, tuple(chosen), f"{seed}:{number}")


def one_by_one(seed: str, shape: Shape, only: Collection[str] = ()) -> Iterator[Turn]:
    """Draw each kind that is possible, by itself: once, or so often that in worlds of all shapes it comes as often."""
    dice = random.Random(f"{seed}:schedule")
    shapes = draw(0)
    deck = [
        fault
        for fault in _possible(shape, only)
        for _ in range(-(-len(shapes) // sum(fault.possible(each) for each in shapes)))
    ]
    dice.shuffle(deck)
    for number, fault in enumerate(deck, 1):
        yield Turn(number, (fault,), f"{seed}:{number}")


def _possible(shape: Shape, only: Collection[str]) -> list[Fault]:
    return [fault for name, fault in KINDS.items() if fault.possible(shape) and (not only or name in only)]


def _together(one: Fault, other: Fault) -> bool:
    """Whether two can happen at once: to different things, and neither ends the session in which the other is done."""
    places = {PLACE_OF[one.name], PLACE_OF[other.name]}
    ending = places & ENDS_SESSIONS
    return len(places) == 2 and (not ending or bool(places & HAS_NONE))


def _copies(fault: Fault, dice: random.Random) -> int:
    """A weight of 2 is two copies; one of 0.1 is one in one of ten decks."""
    return int(fault.weight) + (dice.random() < fault.weight % 1)
