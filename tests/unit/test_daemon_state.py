"""What a daemon says of itself."""

from __future__ import annotations

import pytest

from creditsd.daemon.state import DaemonState, StateName


@pytest.mark.parametrize("name", ["leading", "standby"])
def test_who_is_at_one_step_for_long_is_not_ready_and_says_so(name: StateName) -> None:
    state, late = DaemonState(600.0, late_seconds=60.0), DaemonState(600.0, late_seconds=0.0)
    for each in (state, late):
        each.enter(name)
        each.work()
        assert each.alive
    assert (state.ready, state.problem) == (True, None)
    assert (late.ready, late.problem) == (False, "it has been at one step for 0 s")


def test_who_rests_on_purpose_is_ready() -> None:
    state = DaemonState(600.0, late_seconds=0.0)
    state.enter("leading")
    state.rest(900.0)
    assert (state.ready, state.problem) == (True, None)


def test_what_is_amiss_is_said_once_though_it_is_why_it_does_not_lead() -> None:
    state = DaemonState(600.0)
    state.note("table", "a trigger is missing; a column is gone", logged=True)
    state.enter("disconnected", "a column is gone")
    assert state.problem == "a trigger is missing; a column is gone"
    state.enter("disconnected", "no connection")
    assert state.problem == "no connection; a trigger is missing; a column is gone"
