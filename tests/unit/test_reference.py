"""The tables of settings and options in the pages are what `make docs` writes, and leave none out."""

from __future__ import annotations

import re

import pytest

from docs import reference

PAGES = {page.name: page.read_text(encoding="utf-8") for page in reference.PAGES}
ALL = "\n".join(PAGES.values())


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_the_code_has_it(name: str) -> None:
    assert reference.written(PAGES[name]) == PAGES[name], "run `make docs`"


def test_every_setting_and_every_sinks_options_are_listed_once() -> None:
    assert sorted(reference.named(ALL)) == sorted([*reference.sections(), *reference.options()])


def test_every_setting_says_what_it_means() -> None:
    tables = "\n".join(re.findall(r"<!-- (?:settings|options): .*?<!-- /", ALL, re.DOTALL))
    rows = re.findall(r"^\| `([a-z_.]+)` \|.*\| (.*) \|$", tables, re.MULTILINE)
    assert len(rows) > 120
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
        "| `ttl_seconds` |  | a whole number, above 0 | ",
        "| `per_second` |  | 0.01 to 1 000 000 | ",
        '| `source.columns.user_id` | `"user_id"` | not empty | uuid, text or bigint |',
    ],
)
def test_a_row_has_the_default_and_the_bounds_of_its_setting(row: str) -> None:
    assert row in ALL
