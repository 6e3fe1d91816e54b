"""What a publisher does: it is in one state at a time.

Two of one kind are two states: whoever puts another in the place of the one that is under way has it end there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Standby:
    """Another daemon leads: touch neither the sink nor its row."""


@dataclass(frozen=True, slots=True, eq=False)
class Registering:
    """Read the sink's row, and what waits for another try."""


@dataclass(frozen=True, slots=True, eq=False)
class Disabling:
    """Write down that nothing is to be delivered any more."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Halted:
    """Paused or disabled: look now and then whether it still is."""


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """Connect to the sink."""


@dataclass(frozen=True, slots=True, eq=False)
class Delivering:
    """Deliver what there is, or wait for more."""


@dataclass(frozen=True, slots=True, eq=False)
class BackingOff:
    """Wait, then go on with what failed."""

    seconds: float
    then: Registering | Disabling | Opening


@dataclass(frozen=True, slots=True, eq=False)
class Leaving:
    """Another publisher takes over, or none: deliver nothing more."""


State = Standby | Registering | Disabling | Halted | Opening | Delivering | BackingOff | Leaving
