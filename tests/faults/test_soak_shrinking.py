"""A failing seed is shrunk to the faults that it takes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.soak import schedule
from tests.faults.soak.campaign import Campaign, Plan
from tests.faults.soak.fault import Fault
from tests.faults.soak.repeat import Repeat
from tests.faults.soak.shrinking import Shrinking
from tests.faults.soak.world import Shape, World
from tests.servers import versions

PLANTED = "a write that fails"


async def shrunk(needed: set[int], of: int, reruns: int = 60) -> tuple[Sequence[int], int]:
    """The least that is found where those are needed, and by how many reruns."""

    async def fails(numbers: Sequence[int]) -> bool:
        return needed <= set(numbers)

    shrinking = Shrinking(fails, reruns)
    return await shrinking.smallest(range(1, of + 1)), shrinking.reruns


@pytest.mark.parametrize("needed", [{30}, {12}, {12, 30}, {1, 15, 30}, {1, 2}])
async def test_the_faults_that_it_takes_are_found_among_thirty(needed: set[int]) -> None:
    found, reruns = await shrunk(needed, 30)
    assert set(found) == needed
    assert reruns < 40


async def test_it_ends_after_so_many_reruns_with_what_was_found_by_then() -> None:
    found, reruns = await shrunk({1, 15, 30}, 30, reruns=12)
    assert {1, 15, 30} <= set(found)
    assert len(found) < 30
    assert reruns == 12


async def fail(world: World, _: random.Random) -> None:
    """Have a write fail that nothing excuses."""
    world.application.tally.failures.append("a write failed")


async def test_a_planted_fault_is_found_among_what_a_seed_draws_and_repeated_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(schedule.KINDS, PLANTED, Fault(PLANTED, fail))
    monkeypatch.setitem(schedule.PLACE_OF, PLANTED, "table")
    only = (PLANTED, "table analyzed", "Redis forgets its scripts")
    shape = Shape(max(versions()), False, False, False, 1)
    plan = Plan(5, 600, only=only, shapes=[shape], faults_a_world=6, ends_at_anomaly=True)
    campaign = Campaign(plan, tmp_path)
    await campaign.run()
    failure = campaign.first_failure
    assert failure is not None
    repeat = Repeat(plan, failure, tmp_path)
    await repeat.shrink()
    assert str(repeat) == f"--seed 5 --world 0 --only-faults {failure.numbers[-1]}"
    (turn,) = Plan(5, 600, only=only, numbers=repeat.numbers).turns("5:0", shape)
    assert PLANTED in turn.name
