from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditsd.domain.total import Total, encode, number
from tests.records import record

PRO = Total(
    user_id="u1",
    version=1763800000000000,
    updated_at=datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=UTC),
    credits=Decimal("120.00"),
    membership_status="active",
    plan_type="subscription",
    can_buy=False,
    has_ever_had_subscription=True,
    subscription_id="sub_1",
    membership="Pro",
    expires_at=datetime(2026, 12, 22, tzinfo=UTC),
)


def test_the_json_has_the_documented_keys_in_their_order() -> None:
    assert PRO.json() == (
        b'{"user_id":"u1","version":1763800000000000,"updated_at":"2026-11-22T10:00:00.123456Z","credits":120,'
        b'"membershipStatus":"active","planType":"subscription","canBuy":false,"hasEverHadSubscription":true,'
        b'"message":"You have 120 credits; Pro runs until 2026-12-22.","subscription_id":"sub_1",'
        b'"membership":"Pro","expires_at":"2026-12-22T00:00:00Z"}'
    )


WORDS = st.text(st.characters(exclude_categories=["Cs"]))
EARLY = datetime(2, 1, 1)  # noqa: DTZ001  hypothesis adds the zone itself


@given(
    st.builds(
        PRO._replace,
        user_id=WORDS,
        credits=st.decimals(),
        can_buy=st.booleans(),
        subscription_id=st.none() | WORDS,
        membership=st.none() | WORDS,
        updated_at=st.datetimes(EARLY, timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))])),
        expires_at=st.none() | st.datetimes(EARLY, timezones=st.just(UTC)),
    )
)
def test_what_is_written_out_is_what_would_be_encoded(total: Total) -> None:
    assert total.json() == encode(total.document())


def test_cause_and_previous_are_no_part_of_the_total() -> None:
    assert PRO._replace(cause="repair", previous_record=record("1")).json() == PRO.json()


def test_times_of_another_zone_are_told_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    shown = json.loads(PRO._replace(expires_at=datetime(2026, 12, 22, 1, tzinfo=east)).json())
    assert shown["expires_at"] == "2026-12-21T23:00:00Z"
    assert "2026-12-21" in shown["message"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("120.00", "120"),
        ("120", "120"),
        ("0", "0"),
        ("-0.00", "0"),
        ("0.10", "0.1"),
        ("-5.5", "-5.5"),
        ("1E+3", "1000"),
        ("1E-7", "0.0000001"),
        ("18446744073709551616", "18446744073709551616"),
        ("123456789012345678901234567890123.0000000001", "123456789012345678901234567890123.0000000001"),
    ],
)
def test_credits_are_written_digit_by_digit(value: str, text: str) -> None:
    assert f'"credits":{text},'.encode() in PRO._replace(credits=Decimal(value)).json()
    assert encode({"deep": [Decimal(value)]}) == f'{{"deep":[{text}]}}'.encode()


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_no_number_is_ever_rounded(value: Decimal) -> None:
    assert json.loads(encode(number(value)), parse_int=Decimal, parse_float=Decimal) == value


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_what_json_cannot_say_is_null_and_no_crash(value: str) -> None:
    total = PRO._replace(credits=Decimal(value))
    assert json.loads(total.json())["credits"] is None
    assert total.message.startswith("You have an unknown number of credits")


def test_what_has_no_json_form_is_an_error() -> None:
    with pytest.raises(TypeError):
        encode({"x": object()})


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({}, "You have 120 credits; Pro runs until 2026-12-22."),
        ({"credits": Decimal(1)}, "You have 1 credit; Pro runs until 2026-12-22."),
        ({"credits": Decimal("1.00")}, "You have 1 credit; Pro runs until 2026-12-22."),
        ({"credits": Decimal("0.5")}, "You have 0.5 credits; Pro runs until 2026-12-22."),
        ({"credits": Decimal(0)}, "You have no credits; Pro runs until 2026-12-22."),
        ({"credits": Decimal(-1)}, "You are 1 credit below zero; Pro runs until 2026-12-22."),
        ({"credits": Decimal(-12)}, "You are 12 credits below zero; Pro runs until 2026-12-22."),
        ({"expires_at": None}, "You have 120 credits; Pro is active."),
        ({"membership": None}, "You have 120 credits; your subscription runs until 2026-12-22."),
        (
            {"plan_type": "one_time", "membership": "Starter pack", "expires_at": None},
            "You have 120 credits; Starter pack does not expire.",
        ),
        (
            {"plan_type": "one_time", "membership": ""},
            "You have 120 credits; your one-time plan runs until 2026-12-22.",
        ),
        (
            {"plan_type": "none", "membership": None, "expires_at": None},
            "You have 120 credits; your plan is active.",
        ),
        (
            {"membership_status": "expired", "plan_type": "none", "credits": Decimal(0)},
            "You have no credits; your plan is no longer active.",
        ),
        (
            {"membership_status": "none", "plan_type": "none", "credits": Decimal(0)},
            "You have no credits and no plan.",
        ),
        (
            {"credits": Decimal("-123456789012345678901234567890.123")},
            "You are 123456789012345678901234567890.123 credits below zero; Pro runs until 2026-12-22.",
        ),
    ],
)
def test_the_message_is_one_plain_sentence(changed: dict[str, Any], sentence: str) -> None:
    assert PRO._replace(**changed).message == sentence


def test_a_level_is_said_with_the_threshold_it_is_by_and_not_without() -> None:
    for written, level, low in (
        ('{"level":"low","low_credits":10.5}', "low", Decimal("10.5")),
        ('{"level":null,"low_credits":0}', None, Decimal(0)),
        ('{"level":"depleted","low_credits":1000000000000000000000000000000}', "depleted", Decimal(10) ** 30),
    ):
        total = PRO._replace(level_json=written)
        assert total.leveled == {"level": level, "low_credits": low}
        assert total.json() == PRO.json()[:-1] + b"," + written[1:].encode()
        assert encode(total.document()) == total.json()
    assert PRO.leveled == {}
    nobody = Total.nothing("u9", Decimal("10.50"))
    assert nobody.leveled == {"level": "depleted", "low_credits": Decimal("10.5")}


def test_a_user_nobody_has_heard_of_has_nothing_and_loses_to_any_real_total() -> None:
    nothing = Total.nothing("u9")
    assert (nothing.user_id, nothing.version, nothing.credits) == ("u9", 0, Decimal(0))
    assert (nothing.membership_status, nothing.plan_type) == ("none", "none")
    assert nothing.can_buy
    assert not nothing.has_ever_had_subscription
    assert nothing.message == "You have no credits and no plan."
