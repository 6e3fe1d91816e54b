"""The demo's second sink: letters, and now and then a mailbox that is full, so that there is something to retry."""

from __future__ import annotations

import random
from collections.abc import Sequence

from creditsd.demo.people import YOU
from creditsd.domain.total import Total
from creditsd.sinks import Rejection

MAX_BATCH = 1000
FULL_SHARE = 0.004
REFUSALS = 2  # then there is room again: the second try comes by itself, the third minutes later or by hand


class Mail:
    """Takes all but what a full mailbox refuses."""

    max_batch = MAX_BATCH

    def __init__(self) -> None:
        self._chance = random.Random()
        self._full: dict[str, int] = {}
        self._quiet = True  # until the first is refused, which is the first there is

    async def open(self) -> None:
        """Nothing to connect."""

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Refuse whom there is no room for."""
        return [
            Rejection(total, f"mailbox of {total.user_id} is full", status=452)
            for total in totals
            if self._refuses(total)
        ]

    async def held(self, user_id: str) -> int | None:  # noqa: ARG002  the protocol's signature
        """Tell nothing: a letter sent is gone."""
        return None

    async def close(self) -> None:
        """Nothing to disconnect."""

    def _refuses(self, total: Total) -> bool:
        user_id = total.user_id
        if total.cause == "backfill" or user_id == str(YOU):
            return False
        if user_id not in self._full and (self._quiet or self._chance.random() < FULL_SHARE):
            self._full[user_id], self._quiet = REFUSALS, False
        left = self._full.get(user_id, 0)
        if left > 0:
            self._full[user_id] = left - 1
        else:
            self._full.pop(user_id, None)
        return left > 0
