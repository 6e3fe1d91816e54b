from __future__ import annotations

from creditsd.delivery.timings import TIMINGS
from creditsd.domain.backoff import Backoff


def test_pauses_grow_up_to_a_bound_and_never_all_alike() -> None:
    backoff = Backoff(first_seconds=0.01, longest_seconds=0.05)
    pauses = [backoff.next() for _ in range(50)]
    assert 0.005 <= pauses[0] <= 0.01
    assert all(0.025 <= pause <= 0.05 for pause in pauses[10:])
    assert len(set(pauses)) > 40
    assert backoff.next(at_least=7) == 7


def test_after_a_success_they_begin_anew() -> None:
    backoff = Backoff(first_seconds=1, longest_seconds=1000)
    for _ in range(2000):
        backoff.next()
    assert backoff.next() >= 500
    backoff.begin_anew()
    assert backoff.next() <= 1


def test_at_its_default_growth_a_publisher_finds_a_sink_back_soon() -> None:
    """After so many seconds of trying, the next pause is about a fifth of them, whatever the dice say."""
    timings = TIMINGS
    backoff = Backoff(timings.first_pause_seconds, timings.longest_pause_seconds, timings.pause_growth)
    pauses: list[float] = []
    while sum(pauses) < 15:
        pauses.append(backoff.next())
    assert pauses[-1] < 5
    assert len(pauses) < 40
