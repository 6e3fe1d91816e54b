"""A sink in memory that knows in which order each user's totals came."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from creditsd.domain.total import Total
from creditsd.sinks import Rejection
from tests.conftest import eventually
from tests.integration.line import MemorySink


class Ledger(MemorySink):
    """A sink that writes down what it takes of each user, in that order."""

    def __init__(self, max_batch: int = 2000) -> None:
        super().__init__(max_batch)
        self.steps: defaultdict[str, list[int]] = defaultdict(list)

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        assert len({total.user_id for total in totals}) == len(totals), "one total a user at a time"
        refused = await super().deliver(totals)
        missed = {rejection.total.user_id for rejection in refused}
        for total in totals:
            if total.user_id not in missed:
                self.steps[total.user_id].append(int(total.credits))
        return refused

    async def until_steps(self, user_id: str, *wanted: int) -> None:
        async def steps() -> list[int]:
            return self.steps[user_id]

        await eventually(steps, lambda found: found == list(wanted))
