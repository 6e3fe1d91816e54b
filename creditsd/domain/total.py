"""The total: what a user has, as one immutable value, and the one JSON form everything publishes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import orjson
from psycopg.postgres import types
from psycopg.types.composite import RecordBinaryLoader

from creditsd.domain.events import Event, standing

Cause = Literal["change", "expiry", "auto-expire", "backfill", "repair", "test"]
MembershipStatus = Literal["active", "expired", "none"]
PlanType = Literal["subscription", "one_time", "none"]

NEWEST_VERSION = 2**63 - 1  # a bigint's
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The fields of creditsd.past, the type the total before is stored in, under their public keys.
_PREVIOUS_KEYS = (
    "version",
    "updated_at",
    "credits",
    "membershipStatus",
    "planType",
    "canBuy",
    "hasEverHadSubscription",
    "subscription_id",
    "membership",
    "expires_at",
    "level",
    "low_credits",
)
_load_record = RecordBinaryLoader(types["record"].oid).load
_UNNAMED: Mapping[str, str] = {"subscription": "your subscription", "one_time": "your one-time plan"}


class Total(NamedTuple):
    """One user's credits and plan at one version; of two totals of a user, the higher version is true.

    A tuple, because every row becomes one: that takes a third of the time of a frozen dataclass.
    """

    user_id: str
    version: int
    updated_at: datetime
    credits: Decimal
    membership_status: MembershipStatus
    plan_type: PlanType
    can_buy: bool
    has_ever_had_subscription: bool
    subscription_id: str | None
    membership: str | None
    expires_at: datetime | None
    level_json: str | None = None
    """Whether the credits are low or gone, and from where on, as an object of JSON; None where no threshold is set."""
    cause: str = "change"
    previous_record: bytes | None = None
    """The total before this one as a record, or None. Few ever read it, so it stays as it was sent."""
    happened: str | tuple[Event, ...] | None = None
    """What else has happened and still stands, as it is stored; or what a sink that chooses events has yet to tell of
    it. None: that this total is new."""

    @classmethod
    def nothing(cls, user_id: str, low_credits: Decimal | None = None) -> Total:
        """Answer for a user nobody has heard of: version 0, so that any real total replaces it."""
        return cls(
            user_id=user_id,
            version=0,
            updated_at=_EPOCH,
            credits=Decimal(0),
            membership_status="none",
            plan_type="none",
            can_buy=True,
            has_ever_had_subscription=False,
            subscription_id=None,
            membership=None,
            expires_at=None,
            level_json=None if low_credits is None else f'{{"level":"depleted","low_credits":{digits(low_credits)}}}',
        )

    @property
    def previous(self) -> Mapping[str, Any] | None:
        """The total before this one under its public keys, but for user_id and message; None for the first."""
        return None if self.previous_record is None else read_previous(self.previous_record)

    @property
    def events(self) -> tuple[Event, ...]:
        """What has happened to this user and still stands; most often just that the total is new."""
        return self.happened if isinstance(self.happened, tuple) else standing(self.version, self.happened)

    @property
    def owed(self) -> tuple[Event, ...] | None:
        """What a sink that chooses events has yet to tell of it; None: that it is new."""
        return self.happened if isinstance(self.happened, tuple) else None

    @property
    def leveled(self) -> Mapping[str, Any]:
        """Its `level` and `low_credits`, an exact Decimal, where a threshold is set; else nothing."""
        return {} if self.level_json is None else json.loads(self.level_json, parse_int=Decimal, parse_float=Decimal)

    @property
    def message(self) -> str:
        """Say the total in one sentence for people.

        The credits may come from several plans while the name and the date are the primary one's,
        so the sentence never claims that all credits are of that plan or end with it.
        """
        return self._sentence(digits(self.credits))

    def _sentence(self, written: str) -> str:
        match self.membership_status:
            case "active":
                return f"You {_have(written)}; {self._plan()}."
            case "expired":
                return f"You {_have(written)}; your plan is no longer active."
            case "none":
                return f"You {_have(written)} and no plan."

    def _plan(self) -> str:
        """Name the primary plan and how long it lasts; days are UTC."""
        name = self.membership or _UNNAMED.get(self.plan_type, "your plan")
        if self.expires_at is not None:
            return f"{name} runs until {_utc(self.expires_at).date().isoformat()}"
        return f"{name} does not expire" if self.plan_type == "one_time" else f"{name} is active"

    def document(self) -> dict[str, Any]:
        """Give the total under its public keys, in their documented order, ready for `encode`."""
        return {
            "user_id": self.user_id,
            "version": self.version,
            "updated_at": self.updated_at.astimezone(UTC),
            "credits": number(self.credits),
            "membershipStatus": self.membership_status,
            "planType": self.plan_type,
            "canBuy": self.can_buy,
            "hasEverHadSubscription": self.has_ever_had_subscription,
            "message": self.message,
            "subscription_id": self.subscription_id,
            "membership": self.membership,
            "expires_at": None if self.expires_at is None else self.expires_at.astimezone(UTC),
            **self.leveled,
        }

    def json(self) -> bytes:
        """Encode `document`; sinks rely on it beginning with user_id and version, in this order.

        Every total passes here, so it is written out: that takes a third less time.
        """
        text, amount = orjson.dumps, digits(self.credits)
        return (
            b'{"user_id":%b,"version":%d,"updated_at":%b,"credits":%b,"membershipStatus":"%b","planType":"%b","canBuy":%b,'
            b'"hasEverHadSubscription":%b,"message":%b,"subscription_id":%b,"membership":%b,"expires_at":%b%b}'
        ) % (
            text(self.user_id),
            self.version,
            _time(self.updated_at),
            amount.encode() if self.credits.is_finite() else b"null",
            self.membership_status.encode(),
            self.plan_type.encode(),
            b"true" if self.can_buy else b"false",
            b"true" if self.has_ever_had_subscription else b"false",
            text(self._sentence(amount)),
            text(self.subscription_id),
            text(self.membership),
            b"null" if self.expires_at is None else _time(self.expires_at),
            b"" if self.level_json is None else b"," + self.level_json[1:-1].encode(),
        )


def read_previous(record: bytes) -> dict[str, Any]:
    """Return the total before, sent as a record, under its public keys; credits are a Decimal, times are aware.

    What a newer schema has added at its end is left out: that may be installed before we are restarted.
    """
    previous = dict(zip(_PREVIOUS_KEYS, _load_record(record), strict=False))
    if previous["low_credits"] is None:
        del previous["level"], previous["low_credits"]
    return previous


def encode(obj: Any) -> bytes:
    """Encode as JSON with times as UTC "Z"; Decimals keep every digit, at any depth."""
    return orjson.dumps(obj, default=_encodable, option=orjson.OPT_UTC_Z)


def number(value: Decimal | int) -> orjson.Fragment:
    """Make the exact JSON number of any size; orjson by itself stops at 64 bits."""
    return orjson.Fragment(digits(value) if Decimal(value).is_finite() else "null")


def digits(value: Decimal | int) -> str:
    """Write a number in full: no exponent, no rounding, no trailing zeros after the point."""
    text = str(value)
    if "E" in text:
        text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _encodable(value: Any) -> Any:
    if isinstance(value, Decimal):
        return number(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _utc(instant: datetime) -> datetime:
    return instant if instant.tzinfo is UTC else instant.astimezone(UTC)


def _time(instant: datetime) -> bytes:
    return orjson.dumps(_utc(instant), option=orjson.OPT_UTC_Z)


def _have(written: str) -> str:
    """Say how many credits somebody has, of their number as `digits` writes it."""
    if not written[-1].isdigit():  # numeric knows NaN and infinity
        return "have an unknown number of credits"
    if written == "0":
        return "have no credits"
    amount = written.removeprefix("-")
    words = f"{amount} credit" if amount == "1" else f"{amount} credits"
    return f"are {words} below zero" if written.startswith("-") else f"have {words}"
