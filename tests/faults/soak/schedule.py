"""Which faults happen in a world, in which order: drawn from a seed, so the same again for the same seed."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from tests.faults.soak.fault import Fault
from tests.faults.soak.kinds import brokers, daemon, network, operator, receivers, server, sessions, strangers, table
from tests.faults.soak.world import Shape

KINDS: dict[str, Fault] = {
    fault.name: fault
    for place in (daemon, sessions, server, network, brokers, receivers, table, operator, strangers)
    for fault in place.FAULTS
}
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
    possible = [fault for name, fault in KINDS.items() if fault.possible(shape) and (not only or name in only)]
    number = 0
    while True:
        deck = [fault for fault in possible for _ in range(_copies(fault, dice))]
        dice.shuffle(deck)
        while deck:
            at_once = 2 if len(deck) > 1 and dice.random() < TWO_AT_ONCE and not only else 1
            chosen = tuple(deck.pop() for _ in range(at_once))
            if len({fault.name for fault in chosen}) == at_once:
                number += 1
                yield Turn(number, chosen, f"{seed}:{number}")


def _copies(fault: Fault, dice: random.Random) -> int:
    """A weight of 2 is two copies; one of 0.1 is one in one of ten decks."""
    return int(fault.weight) + (dice.random() < fault.weight % 1)
