"""The total as a client sees it: what the server sent, as one immutable value."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
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
    level: str | None
    """`low` or `depleted`; None where the credits are neither, or the server has no threshold."""
    low_credits: Decimal | None
    """At so many credits or fewer they are low; None where the server has no threshold."""

    json: str = field(repr=False, compare=False)
    """The document as the server sent it, character for character, with keys that this version does not know."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read it from the JSON document of one total. Raises UnavailableError where it is none."""
        document = decode(text)
        try:
            amount, expires_at, low = document["credits"], document["expires_at"], document.get("low_credits")
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
                level=document.get("level"),
                low_credits=None if low is None else Decimal(low),
                json=text,
            )
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise UnavailableError(f"the answer is no total of creditsd: {type(error).__name__} {error}") from None


def decode(text: str | bytes) -> Any:
    """Read JSON without rounding a number. Raises UnavailableError where it is none."""
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise UnavailableError("the answer is no JSON: is this the address of creditsd?") from None


_DECODER = json.JSONDecoder()
_BEFORE_KEY = re.compile(r"[\s{,]*")
_BEFORE_VALUE = re.compile(r"[\s:]*")


def data_of(body: bytes) -> str:
    """Cut `data` out of an answer `{…, "data": …}`, character for character; "null" where there is none."""
    if not isinstance(decode(body), dict):
        return "null"
    text, place = body.decode(), 0
    while not text.startswith("}", place := _end(_BEFORE_KEY, text, place)):
        key, place = _DECODER.raw_decode(text, place)
        start = _end(_BEFORE_VALUE, text, place)
        _, place = _DECODER.raw_decode(text, start)
        if key == "data":
            return text[start:place]
    return "null"


def _end(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    assert found is not None  # both match nothing, too
    return found.end()
