from __future__ import annotations

from creditsd.metrics.rates import SECONDS, Rates


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_it_counts_by_the_second_and_tells_whole_seconds_alone() -> None:
    clock = Clock()
    rates = Rates(clock)
    rates.read(3)
    rates.read(4)
    rates.published(2)
    rates.arrived(clock.now - 0.5)
    rates.arrived(clock.now - 0.002)
    assert sum(rates.history()["changes"]) == 0
    clock.now += 1
    rates.read(100)
    history = rates.history()
    assert history["until"] == 1_000_001
    assert {len(history[name]) for name in ("changes", "totals", "lag_ms")} == {SECONDS}
    assert (history["changes"][-1], history["totals"][-1], history["lag_ms"][-1]) == (7, 2, 500.0)
    assert history["lag_ms"][-2] is None


def test_it_forgets_what_is_old_and_shows_silence_as_silence() -> None:
    clock = Clock()
    rates = Rates(clock)
    rates.published(5)
    clock.now += SECONDS
    assert rates.history()["totals"] == [5] + [0] * (SECONDS - 1)
    clock.now += 1
    assert sum(rates.history()["totals"]) == 0
    clock.now += 10 * SECONDS
    rates.published(1)
    clock.now += 1
    assert rates.history()["totals"] == [0] * (SECONDS - 1) + [1]


def test_a_sink_whose_clock_is_ahead_of_the_servers_is_not_early() -> None:
    clock = Clock()
    rates = Rates(clock)
    rates.arrived(clock.now + 5)
    clock.now += 1
    assert rates.history()["lag_ms"][-1] == 0
