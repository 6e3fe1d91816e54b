"""The soak in short: two worlds, and in each some faults that a seed has drawn. At length: `make soak`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.faults.soak.campaign import Campaign, Plan
from tests.faults.soak.heard import Heard
from tests.faults.soak.ledger import Entry, Ledger, read
from tests.faults.soak.rule import Row, state
from tests.faults.soak.schedule import KINDS, one_by_one, turns
from tests.faults.soak.world import Shape, draw
from tests.integration.line import USER
from tests.servers import REFERENCE_TABLE, versions

QUICK = (
    "leader killed with -9",
    "statement of 'leader' cancelled",
    "PostgreSQL shut down at once (immediate) and started",
    "way to PostgreSQL reset in the middle",
    "way to NATS dropped again and again",
    "way to webhooks truncated",
    "Redis killed and started",
    "receiver refuses some users (400)",
    "column added and dropped",
    "a transaction that stays open",
)
NEWEST, *_, OLDEST = [*versions(), *versions()]


@pytest.mark.parametrize(
    "shape",
    [Shape(NEWEST, False, False, False, 1), Shape(OLDEST, True, False, True, 1)],
    ids=["plain", "partitioned, polling, the oldest server"],
)
async def test_whatever_a_seed_draws_everyone_is_told_the_truth_after_and_nothing_else_before(
    shape: Shape, tmp_path: Path
) -> None:
    plan = Plan(seed=15, seconds=600, world_seconds=600, only=QUICK, faults_a_world=4, shapes=[shape])
    campaign = Campaign(plan, tmp_path)
    await campaign.run()
    assert [outcome for outcome in campaign.outcomes if outcome.anomalies] == []
    assert sum(outcome.faults for outcome in campaign.outcomes) == 4
    assert campaign.written > 0
    assert campaign.told > 0


def test_a_seed_draws_the_same_again_and_another_one_something_else() -> None:
    def drawn(seed: str) -> Sequence[str]:
        each = turns(seed, Shape(NEWEST, False, False, False, 2))
        return [f"{turn.name} {turn.seed}" for turn, _ in zip(each, range(50), strict=False)]

    assert drawn("1:0") == drawn("1:0")
    assert drawn("1:0") != drawn("1:1")


def test_alone_each_kind_comes_by_itself_and_once_a_world_at_least() -> None:
    shapes = draw(1)
    alone = [turn for number, shape in enumerate(shapes) for turn in one_by_one(f"1:{number}", shape)]
    times = Counter(turn.name for turn in alone)
    assert times.keys() == KINDS.keys()
    assert min(times.values()) >= len(shapes)


def test_what_time_has_made_of_a_user_is_known_to_the_moment() -> None:
    pack = Row(credits=5, status="active", plan="one_time", ends=100.0)
    longer = Row(credits=3, status="active", plan="one_time", ends=110.0)
    ledger = Ledger(["one"], {"one": [Entry(90.0, [pack, longer]), Entry(105.0, [longer])]})
    assert [(end.at, end.until, end.total[0]) for end in ledger.ends(120.0)] == [(100.0, 105.0, 3), (110.0, 120.0, 0)]


async def test_what_the_application_has_written_can_be_read_after_a_type_was_altered(database: Database) -> None:
    database.run(REFERENCE_TABLE)
    database.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 7, 'active')", [USER])
    async with database.connect() as connection:
        for _ in range(10):  # the driver prepares what comes again and again
            await read(connection, [USER])
        database.run("ALTER TABLE user_credits ALTER COLUMN credits TYPE bigint")
        assert [row.credits for row in (await read(connection, [USER]))[USER].rows] == [7]


def test_what_a_user_has_is_named_after_the_primary_row() -> None:
    pack = Row(credits=5, status="active", plan="one_time", ends=None, membership="Pack", made=3.0)
    older = Row(credits=3, status="active", plan="subscription", ends=90.0, subscription="sub_1", membership="Pro")
    newer = older._replace(subscription="sub_2", made=2.0)
    assert state([pack, older, newer], 80.0) == (11, "active", "subscription", False, "sub_2", "Pro", 90.0)
    assert state([pack, older, newer], 90.0) == (5, "active", "one_time", True, None, "Pack", None)
    assert state([older, newer], 90.0) == (0, "expired", "none", True, None, None, None)


def test_a_version_that_comes_again_is_noted() -> None:
    heard = Heard("tabs")
    total = {"user_id": "one", "version": 1, "credits": 5, "membershipStatus": "active", "planType": "one_time"}
    total |= {"canBuy": True, "subscription_id": None, "membership": "Pack", "expires_at": None}
    for version in (1, 2, 2, 1):
        heard.hear(total | {"version": version})
    assert heard.again == [("one", 2, 2), ("one", 2, 1)]
    assert heard.late == []


def test_there_are_thirty_kinds_of_fault_in_every_world() -> None:
    for shape in (Shape(NEWEST, False, True, False, 1), Shape(OLDEST, True, False, True, 3)):
        each = turns("1:0", shape)
        names = {fault.name for turn, _ in zip(each, range(300), strict=False) for fault in turn.faults}
        assert len(names) > 30
