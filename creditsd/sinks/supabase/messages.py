"""The topic and event of a broadcast, and how the refused ones of a batch are found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from creditsd.domain.total import Total
from creditsd.sinks import Rejection

EVENT = "credits.updated"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why some messages were not taken, whichever of them is to blame; none of them was sent."""

    reason: str
    status: int | None = None


Send = Callable[[Sequence[Total]], Awaitable[Refusal | None]]
"""Sends all of these or none, and then says why."""


async def by_halves(send: Send, totals: Sequence[Total], refusal: Refusal | None) -> list[Rejection]:
    """Bisect a refused batch: send halves until the totals that are refused alone are found."""
    if refusal is None:
        return []
    if len(totals) == 1:
        return [Rejection(totals[0], refusal.reason, refusal.status)]
    middle = len(totals) // 2
    found: list[Rejection] = []
    for half in (totals[:middle], totals[middle:]):
        found += await by_halves(send, half, await send(half))
    return found
