from __future__ import annotations

import pytest

from tests.protocol.model import ABORTED, PLAIN, ROLLED_BACK_TO_SAVEPOINT, TWICE, Model, Rule, Step

PROGRAMS = {
    "three": (PLAIN, PLAIN, PLAIN),
    "one takes back": (PLAIN, PLAIN, ABORTED),
    "one changes twice": (PLAIN, TWICE),
    "one returns to a savepoint": (PLAIN, ROLLED_BACK_TO_SAVEPOINT),
}


@pytest.mark.parametrize("writers", PROGRAMS.values(), ids=PROGRAMS)
def test_in_no_interleaving_is_a_wake_up_lost_or_a_change_skipped(writers: tuple[tuple[Step, ...], ...]) -> None:
    states, wrong = Model().walk(*writers)
    assert wrong is None
    assert states > 1_000  # it has walked


def test_nor_by_a_crash_anywhere() -> None:
    states, wrong = Model().walk(PLAIN, PLAIN, crashes=1)
    assert wrong is None
    assert states > 1_000


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name.lower())
def test_without_any_one_of_its_rules_it_goes_wrong(rule: Rule) -> None:
    _, wrong = Model(rule).walk(PLAIN, ROLLED_BACK_TO_SAVEPOINT, crashes=1)
    of_the_cursor = (Rule.CURSOR_KEEPS_RUNNING, Rule.CURSOR_OF_THE_READ, Rule.SAVED_AFTER_STORED)
    assert wrong == ("a change is skipped" if rule in of_the_cursor else "it sleeps over a change")
