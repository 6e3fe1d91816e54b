"""Finds the fewest faults of a schedule that still fail: delta debugging, bounded in reruns and in time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Shrinking:
    """Leaves out halves, quarters and so on of what happened, for as long as what is left fails when it is run again.

    What fails now and then only may be taken for what passes, and more be kept than is needed.
    """

    fails: Callable[[Sequence[int]], Awaitable[bool]]
    most_reruns: int = 40
    most_seconds: float = 3600.0
    reruns: int = 0
    _passed: set[tuple[int, ...]] = field(default_factory=set)
    _began: float = field(default_factory=time.monotonic)

    async def smallest(self, numbers: Sequence[int]) -> Sequence[int]:
        """Return the least found of turns that fail together; the last of them is the one after which it showed."""
        if len(numbers) > 1 and await self._fails(numbers[-1:]):
            return numbers[-1:]
        parts = 2
        while len(numbers) > 1 and not self._over:
            smaller = await self._without_a_part(numbers, min(parts, len(numbers)))
            if smaller is not None:
                numbers, parts = smaller, max(parts - 1, 2)
            elif parts >= len(numbers):
                break
            else:
                parts *= 2
        return numbers

    async def _without_a_part(self, numbers: Sequence[int], parts: int) -> Sequence[int] | None:
        """Return what fails with one of so many parts left out, or None; the later ones are more to blame."""
        cuts = [len(numbers) * part // parts for part in range(parts + 1)]
        for begin, end in itertools.pairwise(cuts):
            left = [*numbers[:begin], *numbers[end:]]
            if left and await self._fails(left):
                return left
        return None

    async def _fails(self, numbers: Sequence[int]) -> bool:
        if tuple(numbers) in self._passed or self._over:
            return False
        self.reruns += 1
        if await self.fails(numbers):
            return True
        self._passed.add(tuple(numbers))
        return False

    @property
    def _over(self) -> bool:
        return self.reruns >= self.most_reruns or time.monotonic() - self._began > self.most_seconds
