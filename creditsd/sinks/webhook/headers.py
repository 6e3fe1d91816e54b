"""Checks the headers somebody wants sent with every request; no message of it quotes what may be a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[!-~](?:[\t -~]*[!-~])?")

# What we or the connection write: another one would contradict the body, the signature or who is spoken to.
_OURS = frozenset(
    {
        "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host",
        "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "webhook-id", "webhook-signature",
        "webhook-timestamp",
    }
)  # fmt: skip
_SHORTEST_SECRET = 4  # hiding less in an answer would hide the answer


def parsed(given: Any) -> Any:
    """Take the text of a file, as `headers_file` gives it, as one `Name: value` a line. Raises ValueError."""
    if not isinstance(given, str):
        return given
    found: dict[str, str] = {}
    for number, line in enumerate(given.splitlines(), 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"line {number} is not Name: value")
        if name.strip() in found:
            raise ValueError(f"line {number} gives a header that was given before")
        found[name.strip()] = value.strip()
    return found


def checked(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers. Raises ValueError for what is none, or is ours to write."""
    seen: set[str] = set()
    for number, (name, value) in enumerate(headers.items(), 1):
        lower = name.lower()
        if not _NAME.fullmatch(name):
            raise ValueError(f"number {number} has a name that no header has")
        if lower in _OURS or lower.startswith("proxy-"):
            raise ValueError(f"{name} is not yours to set: the request has its own")
        if lower in seen:
            raise ValueError(f"{name} is given twice")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"the value of {name} must be one line of ASCII, and not empty")
        seen.add(lower)
    return dict(headers)


def secrets(values: Iterable[str]) -> Iterator[str]:
    """Yield what of the values an endpoint must not get to quote: each, and a token without the word before it."""
    for value in values:
        yield from (each for each in (value, value.rpartition(" ")[2]) if len(each) >= _SHORTEST_SECRET)
