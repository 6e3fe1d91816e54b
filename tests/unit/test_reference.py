"""The tables of settings in docs/configuration.md are what `make docs` writes, and leave none out."""

from __future__ import annotations

import re

import pytest

from docs import reference

PAGE = reference.PAGE.read_text(encoding="utf-8")


def test_the_page_is_as_the_code_has_it() -> None:
    assert reference.written(PAGE) == PAGE, "run `make docs`"


def test_every_setting_is_listed_once() -> None:
    assert sorted(reference.named(PAGE)) == sorted(reference.sections())


def test_every_setting_says_what_it_means() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \|.*\| (.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) > 50
    assert [key for key, meaning in rows if not meaning] == []


@pytest.mark.parametrize(
    "row",
    [
        '| `wakeup` | `"doorbell"` | `"doorbell"`, `"poll"` | ',
        "| `poll_seconds` | `0.25` | above 0, to 86 400 | ",
        "| `max_batch_users` | `2000` | a whole number, 1 to 100 000 | ",
        "| `events.low_credits` | `0` | 0 or more | ",
        '| `source.active_statuses` | `["active"]` | a list, not empty | ',
        "| `http.metrics_public` | `true` | `true`, `false` | ",
        '| `source.columns.user_id` | `"user_id"` | not empty | uuid, text or bigint |',
    ],
)
def test_a_row_has_the_default_and_the_bounds_of_its_setting(row: str) -> None:
    assert row in PAGE
