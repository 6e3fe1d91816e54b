"""Runs a part of a schedule that failed again, and shrinks it to what is needed for that."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.faults.soak.campaign import Campaign, Failure, Plan
from tests.faults.soak.shrinking import Shrinking


@dataclass(slots=True)
class Repeat:
    """The turns of one world after which it failed."""

    plan: Plan
    failure: Failure
    directory: Path
    said: Callable[[str], None] = print
    reruns: int = 0
    numbers: Sequence[int] = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = self.failure.numbers

    def __str__(self) -> str:
        """As the command line takes it."""
        chosen = ",".join(str(number) for number in self.numbers)
        return f"--seed {self.plan.seed} --world {self.failure.world}" + (f" --only-faults {chosen}" if chosen else "")

    async def shrink(self, most_reruns: int = 40, most_seconds: float = 3600.0) -> None:
        """Find the fewest turns that still fail, and keep them."""
        shrinking = Shrinking(self._fails, most_reruns, most_seconds)
        self.numbers = await shrinking.smallest(self.numbers)

    async def _fails(self, numbers: Sequence[int]) -> bool:
        self.reruns += 1
        self.said(f"rerun {self.reruns}: {', '.join(map(str, numbers))}")
        plan = replace(
            self.plan,
            seconds=math.inf,
            world_seconds=math.inf,
            faults_a_world=1_000_000,
            at_once=1,
            world=self.failure.world,
            numbers=numbers,
        )
        campaign = Campaign(plan, self.directory / f"rerun-{self.reruns}", self.said)
        await campaign.run()
        return any(outcome.anomalies for outcome in campaign.outcomes)
