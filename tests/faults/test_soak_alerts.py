"""The soak's judge of events: what totals make by the rules, against what a webhook was told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.faults.soak.alerts import Alerts, Annals
from tests.faults.soak.crossings import THRESHOLDS, level

USER = "one"
START = 1_795_841_000_000_000


def total(number: int, amount: int, before: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A total of the user as a webhook carries it, so many seconds after the start."""
    active = {
        "membershipStatus": "active",
        "planType": "one_time",
        "membership": "Pack",
        "subscription_id": None,
        "expires_at": None,
    }
    made = {"user_id": USER, "version": START + number * 1_000_000, "updated_at": moment(number), "credits": amount}
    was = None if before is None else before["level"]
    known = {"level": level(amount, was), "previous": before, "cause": "change"}
    return made | active | known | more


def moment(second: int) -> str:
    return f"2026-11-28T04:43:{20 + second:02}.000000Z"


def told(*totals: dict[str, Any], events: Sequence[tuple[str, int]] = (), every: bool = True) -> list[str]:
    """Judge a webhook that was told totals and, by their number, events."""
    alerts = Alerts(Annals(), every=every)
    for each in totals:
        alerts.hear(f"id-{each['version']}", "credits.updated", each["updated_at"], each)
    for position, (name, number) in enumerate(events):
        facts: dict[str, Any] = {"threshold": THRESHOLDS.get(name)}
        facts = {"plan": plan(totals[number]["previous"])} if name == "plan.expired" else facts
        facts = {} if name == "plan.expiring_soon" else facts
        alerts.hear(f"id-{position}", name, totals[number]["updated_at"], totals[number] | facts)
    newest = {USER: totals[-1]["version"]}
    missing = alerts.missing(newest)
    return [*missing, *alerts.untrue(crashed=False), *alerts.annals.disputed]


def plan(previous: dict[str, Any]) -> dict[str, Any]:
    return {key: previous[key] for key in ("planType", "membership", "subscription_id", "expires_at")}


def line(*amounts: int) -> list[dict[str, Any]]:
    """Totals of the user, one after the other, with so many credits."""
    found: list[dict[str, Any]] = []
    for number, amount in enumerate(amounts):
        found.append(total(number, amount, found[-1] if found else None))
    return found


EVENTS = [("credits.low", 1), ("credits.depleted", 3), ("credits.recovered", 5)]


def test_what_the_rules_have_is_expected_and_between_the_thresholds_is_nothing() -> None:
    steps = line(300, 100, 150, 0, 50, 200)
    assert told(*steps, events=EVENTS) == []
    for left_out in EVENTS:
        (said,) = told(*steps, events=[each for each in EVENTS if each != left_out])
        assert said == f"one was not told {left_out[0]} of {steps[left_out[1]]['version']}"


@pytest.mark.parametrize("invented", [("credits.low", 2), ("credits.low", 4), ("credits.recovered", 2)])
def test_what_happened_at_no_total_is_named(invented: tuple[str, int]) -> None:
    steps = line(300, 100, 150, 0, 50, 200)
    (said,) = told(*steps, events=[*EVENTS, invented])
    assert said.endswith("which did not happen")


def test_one_event_under_two_ids_is_named() -> None:
    (said,) = told(*line(300, 100), events=[("credits.low", 1), ("credits.low", 1)])
    assert said.endswith("as id-1 and as id-0")


def test_a_level_that_is_not_by_the_rules_is_named() -> None:
    steps = line(300, 100, 150)
    (said,) = told(*steps[:2], steps[2] | {"level": None}, events=EVENTS[:1])
    assert said.startswith("one is at level None by")


def test_who_is_told_what_stands_is_owed_the_newest_level_alone() -> None:
    steps = line(300, 100, 0, 50, 200)
    assert told(*steps, events=[("credits.recovered", 4)], every=False) == []
    assert told(*steps, every=False) == [f"one was not told credits.recovered of {steps[4]['version']}"]
    assert told(*steps[:4], events=[("credits.low", 1)], every=False) == []
    assert told(*steps[:4], events=[("credits.depleted", 2)], every=False) == []  # low again, and told of worse
    assert told(*steps[:4], every=False) == [f"one was not told credits.low of {steps[1]['version']}"]


def test_a_plan_that_ended_is_owed_once_with_what_it_was_and_an_end_that_is_near_too() -> None:
    first = total(0, 300)
    near = total(1, 300, first, expires_at="2026-11-28T04:43:21.432000Z")
    again = total(2, 310, near, expires_at=near["expires_at"], updated_at="2026-11-28T04:43:21.400000Z")
    expired = total(3, 0, again, membershipStatus="expired", planType="none", membership=None)
    events = [("plan.expiring_soon", 1), ("plan.expired", 3), ("credits.depleted", 3)]
    assert told(first, near, again, expired, events=events) == []
    assert len(told(first, near, again, expired, events=events[:1])) == 2
    assert told(first, near, again, expired, events=[*events, ("plan.expiring_soon", 2)]) != []


def test_of_two_users_with_versions_of_one_moment_each_is_judged_by_their_own() -> None:
    alerts = Alerts(Annals(), every=True)
    one, other = line(300, 100), line(300, 100)
    for each, user, later in ((one, "one", 0), (other, "two", 1)):
        for document in each:
            document |= {"user_id": user, "version": document["version"] + later}
            alerts.hear("id", "credits.updated", document["updated_at"], document)
        each[1]["previous"]["version"] = each[0]["version"]
        alerts.hear(f"id-{user}", "credits.low", each[1]["updated_at"], each[1] | {"threshold": 100})
    assert alerts.missing({}) == []
    assert list(alerts.untrue(crashed=False)) == []


def test_what_a_server_that_crashed_took_back_is_owed_to_nobody() -> None:
    alerts, steps = Alerts(Annals(), every=True), line(300, 0)
    instead = total(2, 300, steps[0])
    for each in (*steps, instead):
        alerts.hear(f"id-{each['version']}", "credits.updated", each["updated_at"], each)
    newest = {USER: instead["version"]}
    assert alerts.missing(newest) == [f"one was not told credits.depleted of {steps[1]['version']}"]
    assert alerts.missing(newest, crashed=True) == []
    assert alerts.missing({USER: steps[1]["version"]}, crashed=True) != []
