"""What is promised of a daemon's own timings, which the other tests replace by quicker ones."""

from __future__ import annotations

from creditsd.daemon.timings import Timings


def test_what_could_hide_a_change_and_a_frozen_leader_are_noticed_within_half_a_minute() -> None:
    timings = Timings()
    assert timings.watch.look_seconds <= 30
    assert timings.election.leader.frozen_seconds <= 30
