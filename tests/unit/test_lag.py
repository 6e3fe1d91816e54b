"""How far behind the line says it is."""

from __future__ import annotations

import time

from creditsd.daemon.lag import Lag


def test_a_pass_of_many_pages_is_as_far_as_its_first_page_could_see() -> None:
    lag, now = Lag(), time.monotonic()
    lag.begin()
    assert lag.seconds(busy=False) == 0
    lag.note(now - 100, full=True)
    lag.note(now - 60, full=True)
    lag.note(now - 10, full=False)
    assert 100 <= lag.seconds(busy=False) < 160  # what came since has not been read
    lag.note(now - 5, full=False)
    assert lag.seconds(busy=False) == 0
    assert 5 <= lag.seconds(busy=True) < 65
    lag.begin()
    assert lag.seconds(busy=True) < 60
