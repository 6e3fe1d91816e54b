"""docs/promises.md and docs/security.md: every promise names its test, and every test that is named is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from creditsd.sinks import schemes

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("promises", "security")}
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGES["promises"], re.DOTALL | re.MULTILINE))


SINK_ROWS = {"arrives", "order", "how often", "consumer"}


def named(text: str) -> list[tuple[str, str]]:
    return [(file, name) for file, name in NAMED.findall(text)]


@cache
def defined(file: str) -> set[str]:
    path = ROOT / file
    if not path.exists():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def rows(text: str) -> list[list[str]]:
    """The rows of the tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]
    return [row for row, below in zip(cells, [*cells[1:], []], strict=True) if not ruled(row) and not ruled(below)]


def ruled(row: list[str]) -> bool:
    return bool(row) and all(set(cell) <= {"-"} and cell for cell in row)


@pytest.mark.parametrize(
    ("page", "file", "name"), sorted({(page, *each) for page in PAGES for each in named(PAGES[page])})
)
def test_a_test_that_is_named_is_there(page: str, file: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in defined(file), f"docs/{page}.md names {file}::{name}, which is not there"


@pytest.mark.parametrize("page", PAGES)
def test_every_promise_names_a_test(page: str) -> None:
    promises = rows(PAGES[page])
    assert len(promises) > 40
    assert [row[0] for row in promises if not named(row[-1])] == []


def test_a_promise_stands_in_one_place() -> None:
    promised = [row[0] for page in PAGES.values() for row in rows(page) if row[0]]
    assert sorted({each for each in promised if promised.count(each) > 1} - SINK_ROWS) == []


def test_every_sink_says_what_arrives_in_what_order_how_often_and_what_its_consumer_does() -> None:
    for scheme in schemes():
        assert [row[0] for row in rows(SECTIONS[scheme])][:4] == ["arrives", "order", "how often", "consumer"], scheme


def test_every_bad_input_has_its_outcome() -> None:
    assert len(rows(SECTIONS["Bad input"])) >= 15
    assert all(len(row) == 3 and all(row) for row in rows(SECTIONS["Bad input"]))
