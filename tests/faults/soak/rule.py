"""What a user's rows come to at a moment: the rules once more, in Python, apart from the product's SQL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

State = tuple[int, str, str, bool, str | None, str | None, float | None]
"""credits, membershipStatus, planType, canBuy, subscription_id, membership, expires_at: what the rows alone decide."""

NOTHING: State = (0, "none", "none", True, None, None, None)

ROWS = """
SELECT
    user_id::text, credits, status, plan_type,
    extract(epoch FROM expires_at)::float8, subscription_id, membership, extract(epoch FROM created_at)::float8,
    extract(epoch FROM clock_timestamp())::float8
FROM public.user_credits
WHERE user_id IS NOT NULL
"""


class Row(NamedTuple):
    """One row of the application's table; `ends` and `made` in seconds since 1970, by the server's clock."""

    credits: int | None
    status: str | None
    plan: str | None
    ends: float | None
    subscription: str | None = None
    membership: str | None = None
    made: float | None = None

    def counts(self, at: float) -> bool:
        """Whether it counts at a moment. An active pack without credits does not: it ends by itself."""
        empty = self.plan == "one_time" and self.credits == 0
        return self.status == "active" and not empty and (self.ends is None or self.ends > at)

    def rank(self) -> tuple[object, ...]:
        """By what the primary row comes first: a subscription, the latest end, the newest; then by what it says."""
        ends, made = math.inf if self.ends is None else self.ends, -math.inf if self.made is None else self.made
        names = [(name is None, name or "") for name in (self.subscription, self.membership)]
        return self.plan != "subscription", -ends, -made, *names


def state(rows: Sequence[Row], at: float) -> State:
    """Sum up a user's rows at a moment."""
    if not rows:
        return NOTHING
    counting = [row for row in rows if row.counts(at)]
    plans = {row.plan for row in counting}
    plan = "subscription" if "subscription" in plans else "one_time" if "one_time" in plans else "none"
    amount = sum(row.credits or 0 for row in counting)
    if not counting:
        return amount, "expired", plan, True, None, None, None
    first = min(counting, key=Row.rank)
    return amount, "active", plan, plan != "subscription", first.subscription, first.membership, first.ends


def told(document: dict[str, Any]) -> State:
    """Read the same from a total as a consumer gets it."""
    ends = document["expires_at"]
    return (
        document["credits"],
        document["membershipStatus"],
        document["planType"],
        document["canBuy"],
        document["subscription_id"],
        document["membership"],
        None if ends is None else datetime.fromisoformat(ends).timestamp(),
    )
