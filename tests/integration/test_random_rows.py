"""Rows of whatever values a table can hold: totals are what the rules say, and every way to them is the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import MAX_PREC, Context, Decimal
from typing import NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from creditsd.admin.inspect import Inspector
from creditsd.domain.total import encode
from tests.conftest import SERVERS, Database
from tests.integration.line import Line, installed

EXACT = Context(prec=MAX_PREC)
PAST, FUTURE = datetime(2001, 2, 3, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)
# As it is written, whether it is over, and what a total says of it.
ENDS = {
    None: (False, None), "infinity": (False, None), "-infinity": (True, None), "0044-03-15 BC": (True, None),
    "2001-02-03 00:00+00": (True, PAST), "2999-01-01 00:00+00": (False, FUTURE), "294276-12-31 00:00+00": (False, None),
}  # fmt: skip
AMOUNTS = st.one_of(
    st.none(),
    st.sampled_from(
        ["NaN", "Infinity", "-Infinity", "0", "-0.0", "9" * 1000, "-" + "9" * 300 + ".5", "0." + "0" * 900 + "1"]
    ),
    st.sampled_from([str(2**63), str(-(2**63)), "1e400", "1e-400"]),
    st.decimals(allow_nan=False, allow_infinity=False, places=6).map(str),
)
WORDS = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


NO_PRIMARY: set[tuple[str, str | None, datetime | None]] = {("none", None, None)}


class Row(NamedTuple):
    credits: str | None
    status: str | None
    plan: str | None
    membership: str | None
    ends: str | None

    @property
    def amount(self) -> Decimal | None:
        """What it adds, if it counts; no number that is not finite does."""
        found = None if self.credits is None else Decimal(self.credits)
        return found if found is not None and found.is_finite() else None

    @property
    def empties(self) -> bool:
        return self.status == "active" and self.plan == "one_time" and self.amount == 0

    @property
    def counts(self) -> bool:
        return self.status == "active" and not self.empties and not ENDS[self.ends][0]


ROWS = st.builds(
    Row,
    AMOUNTS,
    st.sampled_from(["active", "active", "active", "expired", "Active", "", None]),
    st.sampled_from(["subscription", "one_time", "one_time", "other", None]),
    WORDS,
    st.sampled_from([*ENDS]),
)
Facts = tuple[Decimal, str, bool, bool]


def total_of(rows: list[Row]) -> Facts:
    """Sum up a user's rows by the rules, apart from the product's SQL."""
    counting = [row for row in rows if row.counts]
    amount = Decimal(0)
    for row in counting:
        amount = EXACT.add(amount, row.amount or Decimal(0))
    subscribed = any(row.plan == "subscription" for row in counting)
    ever = any(row.plan == "subscription" for row in rows)
    return amount, "active" if counting else "expired", not subscribed, ever


def primary_of(rows: list[Row]) -> set[tuple[str, str | None, datetime | None]]:
    """Return what a total may say of a primary row: of a subscription that counts, where there is one."""
    counting = [row for row in rows if row.counts]
    among = [row for row in counting if row.plan == "subscription"] or counting
    plans = ("subscription", "one_time")
    return {
        (row.plan if row.plan in plans else "none", row.membership, ENDS[row.ends][1]) for row in among
    } or NO_PRIMARY


@pytest.mark.parametrize("postgres_server", SERVERS[:1], indirect=True)
@settings(
    deadline=None,
    max_examples=settings().max_examples // 20,  # each installs, and is of many users
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(st.lists(st.lists(ROWS, min_size=1, max_size=4), min_size=10, max_size=40))
async def test_totals_are_what_the_rules_say(database: Database, users: list[list[Row]]) -> None:
    database.run(
        "DROP SCHEMA IF EXISTS creditsd CASCADE; DROP TABLE IF EXISTS user_credits; CREATE TABLE user_credits "
        "(user_id int, credits numeric, status text, plan_type text, membership text, expires_at timestamptz)"
    )
    made = await installed(database)
    async with Line.settled(made) as line:
        with psycopg.connect(database.dsn) as application:
            written = [(number, *row) for number, rows in enumerate(users) for row in rows]
            application.cursor().executemany("INSERT INTO user_credits VALUES (%s, %s, %s, %s, %s, %s)", written)
        told = {each.user_id: each for each in await line.settle()}
    assert told.keys() == {str(number) for number in range(len(users))}
    async with Inspector.opened(made, purpose="test") as inspector:
        for number, rows in enumerate(users):
            total, now = told[str(number)], await inspector.total(str(number))
            facts = total.credits, total.membership_status, total.can_buy, total.has_ever_had_subscription
            assert facts == total_of(rows)
            assert (total.plan_type, total.membership, total.expires_at) in primary_of(rows)
            assert now._replace(version=total.version, updated_at=total.updated_at).json() == total.json()
            assert json.loads(total.json(), parse_int=Decimal, parse_float=Decimal) == json.loads(
                encode(total.document()), parse_int=Decimal, parse_float=Decimal
            )
