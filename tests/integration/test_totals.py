"""The rules of the total: every golden case, on every shape of table, with every setting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from creditsd.admin.inspect import Inspector
from creditsd.domain.errors import InputError
from creditsd.domain.total import Total, encode
from tests.conftest import Database
from tests.integration.line import OTHER, USER, Line, installed, said
from tests.integration.shapes import (
    CASES,
    REFERENCE,
    SHAPES,
    Installed,
    Shape,
    Shapes,
    hold,
    put,
)


@pytest.mark.parametrize("case", CASES, ids=[case["name"].replace(" ", "-") for case in CASES])
async def test_a_case_of_the_contract_holds(reference: Installed, case: Mapping[str, Any]) -> None:
    await hold(reference, [case])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
async def test_every_case_holds_on_every_shape_of_table(shapes: Shapes, shape: Shape) -> None:
    await hold(await shapes.get(shape), CASES)


# What no table should hold, and some do.


async def test_a_row_without_a_user_is_nobodys_and_its_write_does_not_fail(reference: Installed) -> None:
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, None, {})
        await application.execute("UPDATE user_credits SET credits = 7 WHERE id = %s", [row])
        await application.execute("DELETE FROM user_credits WHERE id = %s", [row])
        await put(application, None, {})
        assert await line.settle() == []
        await line.connection.execute("SELECT creditsd.begin_resync('test')")
        assert await line.settle() == []


async def test_a_row_that_is_given_to_a_user_counts_from_then_on(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, None, {"credits": 7})
        await application.execute("UPDATE user_credits SET user_id = %s WHERE id = %s", [name, row])
        assert {total.user_id: total.credits for total in await line.settle()} == {name: 7}


async def test_a_row_without_credits_adds_nothing_and_its_write_does_not_fail(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        await put(application, name, {"credits": 7})
        await put(application, name, {"credits": None})
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status") == (7, "active")
        left = await application.execute("SELECT status FROM user_credits WHERE user_id = %s", [name])
        assert await left.fetchall() == [("active",), ("active",)]


async def test_a_row_without_a_status_does_not_count(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, name, {"status": None, "plan_type": None, "credits": 3})
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status") == (0, "expired")
        await application.execute("UPDATE user_credits SET status = 'active' WHERE id = %s", [row])
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status", "plan_type") == (3, "active", "none")


@pytest.mark.parametrize("worthless", ["NaN", "Infinity", "-Infinity"])
async def test_credits_that_are_no_number_add_nothing(shapes: Shapes, worthless: str) -> None:
    shape = Shape("uuid", "numeric")
    made, name = await shapes.get(shape), shape.new_user()
    async with Line.settled(made.settings) as line, made.database.connect() as application:
        await put(application, name, {"credits": Decimal("7.5")})
        row = await put(application, name, {"credits": Decimal(worthless)})
        (total,) = await line.settle()
        assert total.credits == Decimal("7.5")
        assert b'"credits":7.5,' in total.json()
        left = await application.execute("SELECT status FROM user_credits WHERE id = %s", [row])
        assert await left.fetchall() == [("active",)]


async def test_a_large_number_is_never_rounded(shapes: Shapes) -> None:
    shape = Shape("uuid", "numeric")
    made, name = await shapes.get(shape), shape.new_user()
    async with Line.settled(made.settings) as line, made.database.connect() as application:
        await put(application, name, {"credits": Decimal("123456789012345678901234567890.123456789")})
        await put(application, name, {"credits": Decimal("0.000000000000000000000000000001000")})
        (total,) = await line.settle()
        digits = b'"credits":123456789012345678901234567890.123456789000000000000000000001,'
        assert digits in total.json()
        await put(application, name, {"credits": 1})
        (total,) = await line.settle()
        assert total.previous is not None
        assert str(total.previous["credits"]) == "123456789012345678901234567890.123456789000000000000000000001"


@pytest.mark.parametrize("never", ["infinity", "20000-01-01 00:00:00+00", "9999-12-31 00:00:00+00"])
async def test_an_end_beyond_any_calendar_never_comes(reference: Installed, never: str) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, name, {"credits": 7, "plan_type": "subscription"})
        await application.execute("UPDATE user_credits SET expires_at = %s::timestamptz WHERE id = %s", [never, row])
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status", "expires_at") == (7, "active", None)
        assert await line.settle() == []


@pytest.mark.parametrize("past", ["-infinity", "4000-01-01 BC", "0001-01-01 00:00:00+00"])
async def test_an_end_before_any_calendar_has_come(reference: Installed, past: str) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, name, {"credits": 7, "plan_type": "subscription"})
        statement = "UPDATE user_credits SET expires_at = %s::timestamptz, created_at = %s::timestamptz WHERE id = %s"
        await application.execute(statement, [past, past, row])
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status", "has_ever_had_subscription") == (0, "expired", True)
        async with Inspector.opened(reference.settings, purpose="test") as inspector:
            assert not (await inspector.explain(name)).rows[0].counts


# What is published.


async def test_an_unchanged_total_publishes_nothing(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, name, {"credits": 7})
        (total,) = await line.settle()
        await application.execute("UPDATE user_credits SET credits = 8 WHERE id = %s", [row])
        await application.execute("UPDATE user_credits SET credits = 7 WHERE id = %s", [row])
        assert await line.settle() == []
        await line.connection.execute("SELECT creditsd.begin_resync('test')")
        assert await line.settle() == []
        async with Inspector.opened(reference.settings, purpose="test") as inspector:
            assert (await inspector.total(name)).version == total.version


async def test_the_total_before_comes_with_the_total(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, name, {"credits": 7, "expires_in_seconds": 3600})
        (first,) = await line.settle()
        assert first.previous is None
        await application.execute("UPDATE user_credits SET credits = 6 WHERE id = %s", [row])
        (second,) = await line.settle()
    before = json.loads(first.json())
    assert second.previous is not None
    assert set(second.previous) == set(before) - {"user_id", "message"}
    told = json.loads(encode(second.previous))
    assert told == {key: before[key] for key in told}


async def test_versions_grow_in_the_order_of_commits_over_all_users(reference: Installed) -> None:
    names = [REFERENCE.new_user() for _ in range(5)]
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        seen: list[Total] = []
        for name in names * 3:
            await put(application, name, {})
            seen += await line.settle()
        assert len(seen) == 15
        versions = [total.version for total in seen]
        assert versions == sorted(set(versions))
        query = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
        found = await (await application.execute(query)).fetchone()
        assert found is not None
        assert found[0] - 60_000_000 < versions[0] < versions[-1] <= found[0]
        assert versions[-1] < 2**53


async def test_a_version_grows_even_when_the_clock_went_back(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        await put(application, name, {})
        (first,) = await line.settle()
        ahead = first.version + 3_600_000_000
        await application.execute("UPDATE creditsd.balances SET version = %s WHERE user_id = %s", [ahead, name])
        await put(application, name, {})
        (second,) = await line.settle()
        assert second.version == ahead + 1
        await application.execute("DELETE FROM creditsd.balances WHERE user_id = %s", [name])


async def test_a_subscription_is_remembered_after_its_rows_are_gone(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        await put(application, name, {"plan_type": "subscription", "credits": 7})
        await line.settle()
        await application.execute("DELETE FROM user_credits WHERE user_id = %s", [name])
        (total,) = await line.settle()
        assert said(total, "membership_status", "credits", "can_buy") == ("none", 0, True)
        assert total.has_ever_had_subscription
        async with Inspector.opened(reference.settings, purpose="test") as inspector:
            assert (await inspector.total(name)).has_ever_had_subscription
        await put(application, name, {"credits": 1})
        (total,) = await line.settle()
        assert total.has_ever_had_subscription


async def test_nobody_is_an_answer_and_a_misshapen_id_an_error(reference: Installed) -> None:
    async with Inspector.opened(reference.settings, purpose="test") as inspector:
        nobody = "11111111-2222-3333-4444-555555555555"
        assert await inspector.total(nobody) == Total.nothing(nobody)
        assert await inspector.stored(nobody) is None
        with pytest.raises(InputError, match="uuid"):
            await inspector.total("somebody")
        assert await inspector.total(nobody) == Total.nothing(nobody)


async def test_an_explanation_agrees_with_the_total(reference: Installed) -> None:
    name = REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        for row in (row for case in CASES for row in case["rows"]):
            await put(application, name, row)
        async with Inspector.opened(reference.settings, purpose="test") as inspector:
            explained = await inspector.explain(name)
            assert explained.total is not None
            assert sum(row.credits or 0 for row in explained.rows if row.counts) == explained.total.credits
            leader = explained.rows[0]
            assert (leader.membership, leader.expires_at) == (explained.total.membership, explained.total.expires_at)
        await line.settle()


async def test_rows_that_are_equal_but_for_an_unknown_type_are_told_apart_however_they_lie(
    reference: Installed,
) -> None:
    same = "'active', %s, 'Pack', '2026-01-01'"
    add = (
        f"INSERT INTO user_credits (user_id, credits, status, plan_type, membership, created_at) VALUES (%s, 5, {same})"
    )
    for order in (("one_time", "gift"), ("gift", "one_time")):
        name = REFERENCE.new_user()
        for plan_type in order:
            reference.database.run(add, [name, plan_type])
        async with Inspector.opened(reference.settings, purpose="test") as inspector:
            explained = await inspector.explain(name)
        assert explained.total is not None
        assert (explained.total.plan_type, explained.rows[0].plan_type) == ("one_time", "one_time")


async def test_a_user_moves_with_the_row(reference: Installed) -> None:
    one, other = REFERENCE.new_user(), REFERENCE.new_user()
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        row = await put(application, one, {"credits": 7})
        await line.settle()
        await application.execute("UPDATE user_credits SET user_id = %s WHERE id = %s", [other, row])
        found = {total.user_id: total.credits for total in await line.settle()}
        assert found == {one: 0, other: 7}


async def test_users_are_apart(reference_table: Database) -> None:
    settings = await installed(reference_table)
    async with Line.settled(settings) as line, reference_table.connect() as application:
        await put(application, USER, {"credits": 1})
        await put(application, OTHER, {"credits": 2})
        await line.settle()
        assert await line.stored() == {USER: 1, OTHER: 2}
