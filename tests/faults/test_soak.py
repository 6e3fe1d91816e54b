"""The soak in short: two worlds, and in each some faults that a seed has drawn. At length: `make soak`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.soak.campaign import Campaign
from tests.faults.soak.schedule import turns
from tests.faults.soak.world import Shape
from tests.servers import versions

QUICK = (
    "leader killed with -9",
    "statement of 'leader' cancelled",
    "PostgreSQL shut down at once (immediate) and started",
    "way to PostgreSQL reset in the middle",
    "way to NATS dropped again and again",
    "way to webhooks truncated",
    "Redis killed and started",
    "receiver refuses some users (400)",
    "column added and dropped",
    "a transaction that stays open",
)
NEWEST, *_, OLDEST = [*versions(), *versions()]


@pytest.mark.parametrize(
    "shape",
    [Shape(NEWEST, False, False, False, 1), Shape(OLDEST, True, False, True, 1)],
    ids=["plain", "partitioned, polling, the oldest server"],
)
async def test_whatever_a_seed_draws_everyone_is_told_the_truth_after_and_nothing_else_before(
    shape: Shape, tmp_path: Path
) -> None:
    campaign = Campaign(
        seed=15, seconds=600, world_seconds=600, directory=tmp_path, only=QUICK, faults_a_world=4, shapes=[shape]
    )
    await campaign.run()
    assert [outcome for outcome in campaign.outcomes if outcome.anomalies] == []
    assert sum(outcome.faults for outcome in campaign.outcomes) == 4
    assert campaign.written > 0
    assert campaign.told > 0


def test_a_seed_draws_the_same_again_and_another_one_something_else() -> None:
    def drawn(seed: str) -> Sequence[str]:
        each = turns(seed, Shape(NEWEST, False, False, False, 2))
        return [f"{turn.name} {turn.seed}" for turn, _ in zip(each, range(50), strict=False)]

    assert drawn("1:0") == drawn("1:0")
    assert drawn("1:0") != drawn("1:1")


def test_there_are_thirty_kinds_of_fault_in_every_world() -> None:
    for shape in (Shape(NEWEST, False, True, False, 1), Shape(OLDEST, True, False, True, 3)):
        each = turns("1:0", shape)
        names = {fault.name for turn, _ in zip(each, range(300), strict=False) for fault in turn.faults}
        assert len(names) > 30
