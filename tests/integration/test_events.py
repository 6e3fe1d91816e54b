"""What happens to a user beside a new total: decided once, where the total is stored."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from creditsd.config.settings import Settings
from creditsd.domain.total import Total
from tests.conftest import Database
from tests.integration.line import OTHER, USER, Line, configured, said, user

LEVELS = {"low_credits": 10, "recovered_credits": "50.5"}
DAYS = {"expiring_soon_days": 3}

PUT = """
    WITH gone AS (DELETE FROM user_credits WHERE user_id = %s)
    INSERT INTO user_credits (user_id, credits, status, plan_type, membership, expires_at)
    VALUES (%s, %s, 'active', 'subscription', 'Pro', %s)
"""


@dataclass(frozen=True, slots=True)
class Story:
    """One line, and what it publishes of a user step by step."""

    line: Line
    database: Database

    async def put(self, amount: object, name: str = USER, *, until: datetime | None = None) -> list[str]:
        """Give a user so many credits, and return what happens by that."""
        self.database.run(PUT, [name, name, amount, until])
        return await self.happens()

    async def happens(self) -> list[str]:
        return [each for total in await self.line.settle() for each in happened(total)]

    async def end(self, name: str = USER) -> list[str]:
        self.database.run("UPDATE user_credits SET status = 'over' WHERE user_id = %s", [name])
        return await self.happens()

    async def row(self, name: str = USER) -> tuple[Any, ...]:
        """Level and events as they are stored."""
        return self.database.run("SELECT level, events FROM creditsd.balances WHERE user_id = %s", [name])[0]

    async def pass_days(self, days: float, name: str = USER) -> None:
        """Let time pass for one user: its ends come nearer, and so does what was planned for them."""
        self.database.run("ALTER TABLE user_credits DISABLE TRIGGER creditsd_update")
        for moved in (
            "UPDATE user_credits SET expires_at = expires_at - %s WHERE user_id = %s",
            "UPDATE creditsd.balances SET expires_at = expires_at - %s WHERE user_id = %s",
            "UPDATE creditsd.balances SET recheck_at = recheck_at - %s WHERE user_id = %s",
        ):
            self.database.run(moved, [timedelta(days=days), name])
        self.database.run(
            "UPDATE creditsd.balances SET ends_told = ARRAY(SELECT e - %s FROM unnest(ends_told) AS e) "
            "WHERE user_id = %s AND ends_told IS NOT NULL",
            [timedelta(days=days), name],
        )
        self.database.run("ALTER TABLE user_credits ENABLE ALWAYS TRIGGER creditsd_update")


def happened(total: Total) -> list[str]:
    """What this very version brought, but for the total itself."""
    return [each.type for each in total.events if each.version == total.version and each.type != "credits.updated"]


def thresholds(database: Database, **events: Any) -> Settings:
    return configured(database, events=events)


@pytest.fixture
async def story(fractions: Database) -> AsyncIterator[Story]:
    async with Line.settled(thresholds(fractions, **LEVELS, **DAYS)) as line:
        yield Story(line, fractions)


# Credits.


async def test_levels_change_exactly_at_the_thresholds_and_are_told_once(story: Story) -> None:
    for amount, what in (
        ("100", []),  # the first is told nobody
        ("10.000001", []),
        ("10", ["credits.low"]),
        ("9.5", []),
        ("50.499999", []),
        ("10", []),
        ("50.5", ["credits.recovered"]),
        ("30", []),
        ("0.000001", ["credits.low"]),
        ("0", ["credits.depleted"]),
        ("-7", []),
        ("0", []),
        ("5", []),
        ("0", ["credits.depleted"]),
        ("20", []),
        ("50.5", ["credits.recovered"]),
        ("-0.000001", ["credits.depleted"]),
        ("1000", ["credits.recovered"]),
    ):
        assert (amount, await story.put(amount)) == (amount, what)


async def test_what_was_overtaken_does_not_stand_any_more(story: Story) -> None:
    async def stands() -> list[str]:
        return sorted((await story.row())[1] or {})

    await story.put(100)
    assert await story.row() == (None, None)
    await story.put(5)
    assert (await story.row())[0] == "low"
    assert await stands() == ["credits.low"]
    await story.put(0)
    assert (await story.row())[0] == "depleted"
    assert await stands() == ["credits.depleted", "credits.low"]
    await story.put(5)
    assert (await story.row())[0] == "low"
    assert await stands() == ["credits.low"]
    await story.put(60)
    assert (await story.row())[0] is None
    assert await stands() == ["credits.recovered"]
    await story.put(0)
    assert await stands() == ["credits.depleted"]


async def test_an_event_says_which_threshold_it_was_about(story: Story) -> None:
    facts: dict[str, Any] = {}
    for amount in (100, 10, 0, 51):
        story.database.run(PUT, [USER, USER, amount, None])
        (total,) = await story.line.settle()
        facts |= {each.type: each.facts for each in total.events}
    assert facts == {
        "credits.updated": {},
        "credits.low": {"threshold": 10},
        "credits.depleted": {"threshold": 0},
        "credits.recovered": {"threshold": Decimal("50.5")},
    }


async def test_without_thresholds_credits_only_run_out_and_come_back(fractions: Database) -> None:
    async with Line.settled(configured(fractions)) as line:
        story = Story(line, fractions)
        told = [await story.put(amount) for amount in (1, "0.01", 0, -1, "0.01", 0)]
        assert told == [[], [], ["credits.depleted"], [], ["credits.recovered"], ["credits.depleted"]]


async def test_whoever_has_no_rows_any_more_is_out_of_credits(story: Story) -> None:
    await story.put(60)
    story.database.run("DELETE FROM user_credits")
    assert await story.happens() == ["credits.depleted"]


class Model:
    """The levels once more, as plainly as can be."""

    def __init__(self) -> None:
        self.level = ""

    def put(self, amount: Decimal, low: Decimal, recovered: Decimal) -> list[str]:
        before, first = self.level, not self.level
        if amount <= 0:
            self.level = "depleted"
        elif amount <= low or (before in ("low", "depleted") and amount < recovered):
            self.level = "low"
        else:
            self.level = "ok"
        if first or self.level == before or (before, self.level) == ("depleted", "low"):
            return []
        return [{"depleted": "credits.depleted", "low": "credits.low", "ok": "credits.recovered"}[self.level]]


@pytest.mark.parametrize(("low", "recovered"), [("0", "0"), ("10", "0"), ("10", "50.5"), ("0", "50.5")])
async def test_whatever_way_the_credits_go_it_is_the_models(fractions: Database, low: str, recovered: str) -> None:
    amounts = [Decimal(each) for each in ("-3", "0", "0.01", "9.99", "10", "10.01", "50.49", "50.5", "50.51", "800")]
    chance = random.Random(f"{low} {recovered}")
    models = {user(number): Model() for number in range(60)}
    async with Line.settled(thresholds(fractions, low_credits=low, recovered_credits=recovered)) as line:
        for _ in range(25):
            given = {name: chance.choice(amounts) for name in models}
            fractions.run("TRUNCATE creditsd.changes; DELETE FROM user_credits")
            fractions.run(
                "INSERT INTO user_credits (user_id, credits, status) "
                "SELECT n::uuid, c, 'active' FROM unnest(%s::text[], %s::numeric[]) AS g (n, c)",
                [list(given), list(given.values())],
            )
            told = {total.user_id: happened(total) for total in await line.settle()}
            for name, amount in given.items():
                expected = models[name].put(amount, Decimal(low), max(Decimal(low), Decimal(recovered)))
                assert (name, amount, told.get(name, [])) == (name, amount, expected)


# Thresholds that move.


async def test_a_threshold_that_moves_happens_to_nobody_and_counts_from_then_on(fractions: Database) -> None:
    async with Line.settled(thresholds(fractions, low_credits=10)) as line:
        story = Story(line, fractions)
        for name, amount in ((USER, 40), (OTHER, 5)):
            await story.put(amount, name)
    async with Line.opened(thresholds(fractions, low_credits=45, recovered_credits=60)) as line:
        assert line.resumption.resyncing == "policy changed"
        story = Story(line, fractions)
        # A change that is read before everyone has been looked at tells nobody either.
        fractions.run(PUT, [USER, USER, 39, None])
        told = [*(await line.change_reader.drain(10)).totals, *await line.settle()]
        assert {total.user_id: (total.leveled["level"], happened(total)) for total in told} == {
            USER: ("low", []),
            OTHER: ("low", []),
        }
        assert await story.put(59) == []
        assert await story.put(60) == ["credits.recovered"]
        assert await story.put(45) == ["credits.low"]
    async with Line.settled(thresholds(fractions, low_credits=3)) as line:
        story = Story(line, fractions)
        assert await story.row() == await story.row(OTHER) == (None, None)
        assert await story.put(3, OTHER) == ["credits.low"]
        assert await story.put(0) == ["credits.depleted"]


async def test_everyone_of_before_there_were_levels_has_the_one_of_the_stored_credits(story: Story) -> None:
    for name, amount in ((USER, 60), (OTHER, 0), (user(3), 7)):
        await story.put(amount, name)
    story.database.run("UPDATE creditsd.balances SET level = NULL, events = NULL")
    await story.line.connection.execute("SELECT creditsd.begin_resync('backfill')")
    told = await story.line.settle()
    assert {total.user_id: (total.leveled["level"], happened(total)) for total in told} == {
        OTHER: ("depleted", []),
        user(3): ("low", []),
    }
    assert [(await story.row(name))[0] for name in (USER, OTHER, user(3))] == [None, "depleted", "low"]
    story.database.run("UPDATE creditsd.balances SET level = NULL")
    assert await story.put(0) == ["credits.depleted"]


async def test_a_total_published_again_happens_to_nobody(story: Story) -> None:
    for amount in (60, 5, 0):
        await story.put(amount)
    (again,) = (await story.line.recomputer.recompute([USER], cause="repair", republish=True)).totals
    assert happened(again) == []
    assert {each.type for each in again.events if each.version < again.version} == {"credits.depleted"}


# Plans.


async def test_a_plan_expires_once_and_says_what_it_was(story: Story) -> None:
    end = datetime.now(UTC) + timedelta(days=30)
    assert await story.put(60, until=end) == []
    story.database.run("UPDATE user_credits SET status = 'over'")
    (total,) = await story.line.settle()
    assert happened(total) == ["credits.depleted", "plan.expired"]
    plan = next(each.facts["plan"] for each in total.events if each.type == "plan.expired")
    assert (plan["planType"], plan["membership"], plan["subscription_id"]) == ("subscription", "Pro", None)
    assert datetime.fromisoformat(plan["expires_at"]) == end
    story.database.run("UPDATE user_credits SET credits = 1")
    assert await story.happens() == []
    assert await story.put(60) == ["credits.recovered"]
    assert "plan.expired" not in (await story.row())[1]
    assert await story.end() == ["credits.depleted", "plan.expired"]


async def test_an_end_that_comes_near_is_told_once_and_again_after_renewal(story: Story) -> None:
    near, far = datetime.now(UTC) + timedelta(days=5), datetime.now(UTC) + timedelta(days=20)
    assert await story.put(60, until=near) == []
    page = (await story.line.change_reader.drain(10)).page
    assert 1.9 < page["due_seconds"] / 86_400 < 2
    before = story.database.run("SELECT version FROM creditsd.balances")[0][0]
    await story.pass_days(2.5)
    (total,) = await story.line.settle()
    assert happened(total) == ["plan.expiring_soon"]
    # The total is the one of before, and nobody is told that it is new.
    assert [(each.type, each.version) for each in total.events if each.version < total.version] == [
        ("credits.updated", before)
    ]
    assert said(total, "cause", "credits") == ("expiry", 60)
    assert await story.put(55, until=total.expires_at) == []
    assert sorted((await story.row())[1]) == ["plan.expiring_soon"]
    assert await story.put(55, until=far) == []
    assert await story.row() == (None, None)
    # Back to the end that was told of, then renewed to another that is near at once.
    assert await story.put(55, until=total.expires_at) == []
    assert await story.put(55, until=near - timedelta(days=3)) == ["plan.expiring_soon"]
    assert await story.put(55, until=total.expires_at) == []
    await story.pass_days(5)
    assert await story.happens() == ["credits.depleted", "plan.expired"]
    assert await story.put(55, until=far) == ["credits.recovered"]
    await story.pass_days(18)
    assert await story.happens() == ["plan.expiring_soon"]


async def test_whoever_comes_with_an_end_that_is_near_is_told_but_not_in_a_backfill(fractions: Database) -> None:
    near = datetime.now(UTC) + timedelta(days=1)
    fractions.run(PUT, [USER, USER, 60, near])
    async with Line.settled(thresholds(fractions, **DAYS)) as line:
        story = Story(line, fractions)
        assert await story.row() == (None, None)
        assert await story.put(50, until=near) == []
        assert await story.put(60, OTHER, until=near) == ["plan.expiring_soon"]


async def test_more_days_tell_nobody_whose_end_they_make_near(fractions: Database) -> None:
    ends = [datetime.now(UTC) + timedelta(days=days) for days in (5, 8)]
    for days, names in ((0, ()), (7, (OTHER,)), (3, (USER,)), (0, ())):
        async with Line.settled(thresholds(fractions, expiring_soon_days=days)) as line:
            story = Story(line, fractions)
            if days == 0:
                for name, end in zip((USER, OTHER), ends, strict=True):
                    assert await story.put(60, name, until=end) == []
                continue
            assert [(await story.row(name))[1] for name in (USER, OTHER)] == [None, None]
            for name in names:
                await story.pass_days(2.5, name)
                assert await story.happens() == ["plan.expiring_soon"]
                story.database.run("UPDATE creditsd.balances SET events = NULL")


async def test_an_end_in_no_sight_needs_no_timer(story: Story) -> None:
    assert await story.put(60) == []
    for amount, until in itertools.product((1, 60), (datetime(9999, 12, 31, tzinfo=UTC), None)):
        await story.put(amount, until=until)
    assert story.database.run("SELECT recheck_at FROM creditsd.balances") == [(None,)]
