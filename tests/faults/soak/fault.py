"""A kind of fault: something that happens to a world and is over when its coroutine ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tests.faults.soak.world import Shape, World

NOTHING = "none: the application writes"
"""The kind that is no fault, and no fault is counted for it."""

Happening = Callable[[World, random.Random], Coroutine[Any, Any, None]]


def anywhere(_: Shape) -> bool:
    """Whether it can happen in a world of any shape."""
    return True


@dataclass(frozen=True, slots=True)
class Fault:
    """Its name, what happens, how often beside the others, and in which worlds it can.

    `mend` says what the documentation asks a person to do after it, which then belongs to it.
    """

    name: str
    happen: Happening
    weight: float = 1.0
    possible: Callable[[Shape], bool] = anywhere
    mend: str = ""
