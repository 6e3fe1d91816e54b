"""What a user's rows come to at a moment: the rules once more, in Python, apart from the product's SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

State = tuple[int, str, str, bool]
"""credits, membershipStatus, planType, canBuy: what a ledger can decide whatever else a total says."""

NOTHING: State = (0, "none", "none", True)

ROWS = """
SELECT
    user_id::text, credits, status, plan_type,
    extract(epoch FROM expires_at)::float8, extract(epoch FROM clock_timestamp())::float8
FROM public.user_credits
WHERE user_id IS NOT NULL
"""


class Row(NamedTuple):
    """One row of the application's table; `ends` in seconds since 1970, by the server's clock."""

    credits: int | None
    status: str | None
    plan: str | None
    ends: float | None

    def counts(self, at: float) -> bool:
        """Whether it counts at a moment. An active pack without credits does not: it ends by itself."""
        empty = self.plan == "one_time" and self.credits == 0
        return self.status == "active" and not empty and (self.ends is None or self.ends > at)


def state(rows: Sequence[Row], at: float) -> State:
    """Sum up a user's rows at a moment."""
    if not rows:
        return NOTHING
    counting = [row for row in rows if row.counts(at)]
    plans = {row.plan for row in counting}
    plan = "subscription" if "subscription" in plans else "one_time" if "one_time" in plans else "none"
    amount = sum(row.credits or 0 for row in counting)
    return amount, "active" if counting else "expired", plan, plan != "subscription"


def told(document: dict[str, Any]) -> State:
    """Read the same from a total as a consumer gets it."""
    return document["credits"], document["membershipStatus"], document["planType"], document["canBuy"]
