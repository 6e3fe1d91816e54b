"""Reads server-sent events out of the bytes of a stream, however they are cut, as the HTML standard describes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from creditsd_client.errors import UnavailableError

MAX_EVENT_BYTES = 1 << 20  # a total has a few hundred; whatever sends more is not creditsd
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `name` is "message" where the server gave none."""

    name: str
    data: str


class Events:
    """The events of one connection."""

    def __init__(self) -> None:
        self.retry_seconds: float | None = None
        self._rest = b""
        self._begun = False
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def read(self, chunk: bytes) -> Iterator[Event]:
        """Take the next bytes, and give the events that end in them. Raises UnavailableError for endless ones."""
        for line in self._lines(chunk):
            if line:
                self._take(line)
                continue
            if self._data:
                yield Event(self._name or "message", "\n".join(self._data))
            self._name, self._data, self._size = "", [], 0

    def _lines(self, chunk: bytes) -> Iterator[str]:
        text, seen = self._rest + chunk, max(0, len(self._rest) - 1)
        if not self._begun and len(text) >= 3:
            self._begun, text, seen = True, text.removeprefix(b"\xef\xbb\xbf"), 0
        start = 0
        for end in _LINE_END.finditer(text, seen):
            if end[0] == b"\r" and end.end() == len(text):
                break  # its \n may be in the next chunk
            yield text[start : end.start()].decode(errors="replace")
            start = end.end()
        self._rest = text[start:]
        if len(self._rest) + self._size > MAX_EVENT_BYTES:
            raise UnavailableError("the stream sends no events of creditsd: one of them does not end")

    def _take(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "data":
                self._data.append(value)
                self._size += len(value)
            case "event":
                self._name = value
            case "retry" if value.isascii() and value.isdecimal():
                self.retry_seconds = int(value) / 1000
            case _:
                pass  # comments, which are heartbeats; `id`, which is the version in the total itself; the unknown
