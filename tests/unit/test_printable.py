"""Text that somebody else wrote, made fit for a log line or a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditsd.config.printable import escaped, escaped_json, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words, Zoë 🎫 日本", "plain words, Zoë 🎫 日本"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31mred", "\\x9b31mred"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("user\u202egnp.exe", "user\\u202egnp.exe"),
        ("zero\u200bwidth, no\u00a0break", "zero\\u200bwidth, no\\xa0break"),
        ("line\u2028end", "line\\u2028end"),
        ("half \ud800", "half \\ud800"),
        ("tag \U000e0041", "tag \\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_written_as_an_escape(text: str, shown: str) -> None:
    assert escaped(text) == shown


@given(st.text())
def test_what_is_escaped_is_printable(text: str) -> None:
    assert escaped(text).isprintable()


@given(st.text(st.characters(codec="utf-8")))
def test_json_means_the_same_escaped(text: str) -> None:
    document = json.dumps({"name": text}, ensure_ascii=False)
    assert escaped_json(document).isprintable()
    assert json.loads(escaped_json(document)) == {"name": text}


def test_a_strangers_words_are_one_bounded_line_without_our_secrets() -> None:
    said = one_line("  no\nsuch \x1b[31m user hunter2 ", ["hunter2"])
    assert said == "no such \\x1b[31m user ***"
    assert len(one_line("x" * 1000)) == 200
    assert one_line("x" * 1000, longest=20) == "x" * 20
