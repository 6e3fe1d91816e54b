"""Makes text that somebody else wrote fit for a log line or a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from creditsd.config.redact import REDACTED

REASON_LENGTH = 200

# A line of plain words has none of these: most text is looked at once, and left as it is.
_SUSPECT = re.compile(r"[^ -~]")


def escaped(text: str) -> str:
    r"""Write what a terminal would obey, or what would reorder a line, as `\x1b` and `\u202e` instead.

    That is whatever Unicode does not call printable: control characters, marks of direction, other spaces than the
    plain one, line separators, halves of surrogate pairs.
    """
    return _SUSPECT.sub(_escape, text)


def escaped_json(text: str) -> str:
    """Write the same of JSON text as JSON's own escapes: it means what it meant."""
    return _SUSPECT.sub(_escape_in_json, text)


def one_line(text: str, secrets: Sequence[str] = (), *, longest: int = REASON_LENGTH) -> str:
    """Return a stranger's words as one bounded, printable line without our secrets."""
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    return escaped(" ".join(text.split()))[:longest]


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _escape_in_json(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable():
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True))
