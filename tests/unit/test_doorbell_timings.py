from __future__ import annotations

import pytest

from creditsd.capture.doorbell import Timings


@pytest.mark.parametrize(("worked", "rests"), [(0.0, 0.0), (0.004, 0.004), (0.025, 0.025), (2.0, 0.025)])
@pytest.mark.parametrize("rate", [0.0, 1_000.0, 2_500.0])
def test_awake_it_rests_as_long_as_it_worked_and_never_long(worked: float, rests: float, rate: float) -> None:
    assert Timings().rest_seconds(worked, rate) == rests


@pytest.mark.parametrize(("worked", "rests"), [(0.0, 0.0), (0.004, 0.012), (0.025, 0.025)])
def test_while_more_changes_come_it_rests_longer_in_proportion(worked: float, rests: float) -> None:
    assert Timings().rest_seconds(worked, 7_500.0) == rests
