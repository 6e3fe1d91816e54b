"""The house of CONTRIBUTING.md: functions one can read at once, classes one can keep in mind, nothing flat."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "creditsd"
LONGEST_FUNCTION = 40
MOST_FIELDS = 15


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield str(path.relative_to(PACKAGE)), node


def fields(node: ast.ClassDef) -> set[str]:
    """The annotations of a class, and what its `__init__` gives to `self`."""
    found = {
        each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            found |= {
                inner.attr
                for inner in ast.walk(each)
                if isinstance(inner, ast.Attribute)
                and isinstance(inner.ctx, ast.Store)
                and isinstance(inner.value, ast.Name)
                and inner.value.id == "self"
            }
    return found


def test_no_function_is_longer_than_one_can_read_at_once() -> None:
    long = [
        f"{path}: {node.name}"
        for path, node in nodes()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]
    assert long == []


def test_no_class_has_more_fields_than_one_can_keep_in_mind() -> None:
    large = [
        f"{path}: {node.name}"
        for path, node in nodes()
        if isinstance(node, ast.ClassDef) and len(fields(node)) > MOST_FIELDS
    ]
    assert large == []


def test_nothing_lies_flat_in_the_package_but_its_drawing_and_its_command() -> None:
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} == {"__init__.py", "__main__.py", "py.typed"}
