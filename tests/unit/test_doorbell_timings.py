from __future__ import annotations

import pytest

from creditsd.capture.doorbell import Timings


@pytest.mark.parametrize(("worked", "rests"), [(0.0, 0.0), (0.004, 0.004), (0.025, 0.025), (2.0, 0.025)])
def test_awake_it_rests_as_long_as_it_worked_and_never_long(worked: float, rests: float) -> None:
    assert Timings().rest_seconds(worked) == rests
