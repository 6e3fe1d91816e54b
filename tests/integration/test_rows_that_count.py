"""Which rows count, by the settings of the table: every golden case, asked in every way there is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from creditsd.admin.inspect import Inspector
from creditsd.admin.verify import Verifier
from tests.conftest import Database
from tests.integration.line import USER, Line, installed
from tests.servers import REFERENCE_TABLE

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "cases" / "rows.json").read_text())["cases"]


def add(database: Database, types: Mapping[str, str], amount: int, row: Mapping[str, Any]) -> None:
    """Insert a row as the cases write it: what names now() is SQL, and whatever else a word."""
    given = {name: value for name, value in row.items() if name not in ("counts", "why")}
    values = {"user_id": USER, "credits": str(amount), "status": "active", **given}
    written = [
        sql.SQL(value) if "now()" in value or value == "NULL" else sql.Literal(value) for value in values.values()
    ]
    statement = sql.SQL("INSERT INTO user_credits ({}) VALUES ({})").format(
        sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(written)
    )
    assert given.keys() <= {*types, "status", "plan_type", "expires_at"}
    database.run(statement.as_string(None))


@pytest.mark.parametrize("case", CASES, ids=[case["name"].replace(" ", "-") for case in CASES])
async def test_a_case_holds_and_all_agree(database: Database, case: Mapping[str, Any]) -> None:
    database.run(REFERENCE_TABLE)
    for name, type_ in case["columns"].items():
        change = "ALTER {0} TYPE {1} USING {0}::{1}" if name == "status" else "ADD {0} {1}"
        column = sql.SQL("ALTER TABLE user_credits " + change).format(sql.Identifier(name), sql.SQL(type_))
        database.run(column.as_string(None))
    settings = await installed(database, source=case["source"])
    rows = {2**number: row for number, row in enumerate(case["rows"])}
    expected = sum(amount for amount, row in rows.items() if row["counts"])
    async with Line.settled(settings) as line, Inspector.opened(settings, purpose="test") as inspector:
        for amount, row in rows.items():
            add(database, case["columns"], amount, row)
        (published,) = await line.settle()
        assert published.credits == expected
        assert published.membership_status == ("active" if expected else "expired")
        assert (await inspector.total(USER)).json() == published.json()
        explained = {int(each.credits or 0): each for each in (await inspector.explain(USER)).rows}
        assert {amount: each.counts for amount, each in explained.items()} == {
            amount: row["counts"] for amount, row in rows.items()
        }
        for amount, row in rows.items():
            assert explained[amount].why.startswith(row["why"])
        async with Verifier.opened(settings, []) as verifier:
            verdict = await verifier.run(repair=False, progress=lambda *_: None, report=lambda _: None)
            assert (verdict.users, verdict.drifted, verdict.set_aside) == (1, 0, 0)
