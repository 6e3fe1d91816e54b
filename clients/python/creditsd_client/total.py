"""The total as a client sees it: what the server sent, as one immutable value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from creditsd_client.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Total:
    """One user's credits and plan; of two totals of a user, the one with the higher version is true."""

    user_id: str
    version: int
    updated_at: datetime
    credits: Decimal
    """Exact; NaN where the table itself holds no finite number."""
    membership_status: str
    """`active`, `expired` or `none`."""
    plan_type: str
    """`subscription`, `one_time` or `none`."""
    can_buy: bool
    has_ever_had_subscription: bool
    message: str
    """One sentence for people."""
    subscription_id: str | None
    membership: str | None
    expires_at: datetime | None

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Make it from a JSON document whose numbers were read exactly; keys it does not know are left alone."""
        try:
            amount, expires_at = document["credits"], document["expires_at"]
            return cls(
                user_id=document["user_id"],
                version=int(document["version"]),
                updated_at=datetime.fromisoformat(document["updated_at"]),
                credits=Decimal("NaN") if amount is None else Decimal(amount),
                membership_status=document["membershipStatus"],
                plan_type=document["planType"],
                can_buy=document["canBuy"],
                has_ever_had_subscription=document["hasEverHadSubscription"],
                message=document["message"],
                subscription_id=document["subscription_id"],
                membership=document["membership"],
                expires_at=None if expires_at is None else datetime.fromisoformat(expires_at),
            )
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise UnavailableError(f"the answer is no total of creditsd: {type(error).__name__} {error}") from None


def decode(text: str | bytes) -> Any:
    """Read JSON without rounding a number. Raises UnavailableError where it is none."""
    try:
        return json.loads(text, parse_float=Decimal)
    except ValueError:
        raise UnavailableError("the answer is no JSON: is this the address of creditsd?") from None
