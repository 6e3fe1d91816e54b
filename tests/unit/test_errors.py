from __future__ import annotations

import ast
from pathlib import Path

import pytest

import creditsd
from creditsd.domain.errors import ConfigError, CreditsdError, DatabaseUnavailable, SinkUnavailable, ungrouped

MODULES = sorted(Path(creditsd.__file__).parent.rglob("*.py"))


def raised(error: BaseException) -> BaseException:
    with pytest.raises(BaseException) as caught, ungrouped():  # noqa: PT011  whatever it is
        raise error
    return caught.value


def test_of_a_group_the_first_error_is_raised_alone_however_deep_it_lies() -> None:
    first, echo = DatabaseUnavailable("gone"), SinkUnavailable("and so is this")
    assert raised(ExceptionGroup("", [ExceptionGroup("", [first]), echo])) is first
    assert first.__suppress_context__


@pytest.mark.parametrize("error", [ConfigError("a typo"), ZeroDivisionError("a bug")])
def test_an_error_that_is_alone_stays_as_it_is(error: Exception) -> None:
    assert raised(error) is error


def test_a_bug_is_not_hidden_behind_an_error_of_ours() -> None:
    group = ExceptionGroup("", [CreditsdError("ours"), ZeroDivisionError("a bug")])
    assert raised(group) is group


def test_nothing_is_raised_inside_except_star() -> None:
    # Python 3.11.2, which Debian 12 has, wraps that into a group, and every failed start becomes a bug.
    guilty = [
        f"{path}:{inner.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.TryStar)
        for handler in node.handlers
        for inner in ast.walk(handler)
        if isinstance(inner, ast.Raise)
    ]
    assert guilty == []
    assert len(MODULES) > 100
