from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from decimal import Decimal
from typing import Any

from creditsd.sinks import Sink
from creditsd.sinks.stdout import StdoutSink


class StdoutHarness:
    """A pipe, and a reader that keeps the line with the higher version, as docs/sinks.md asks of it."""

    def __init__(self) -> None:
        self.secrets: list[str] = []
        self.lines: list[dict[str, Any]] = []
        self._text = b""
        self._read = self._write = -1

    async def start(self) -> None:
        self._read, self._write = os.pipe()
        fcntl.fcntl(self._write, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.set_blocking(self._read, False)

    async def stop(self) -> None:
        # The reader first: it frees a thread that is stuck writing, before its descriptor goes.
        for descriptor in (self._read, self._write):
            with suppress(OSError):
                os.close(descriptor)

    def make(self) -> Sink:
        return StdoutSink("lines", self._write)

    async def received(self, user_id: str) -> dict[str, Any] | None:
        self.drain()
        mine = [line for line in self.lines if line["user_id"] == user_id]
        return max(mine, key=lambda line: int(line["version"]), default=None)

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while block := os.read(self._read, 1 << 16):
                self._text += block
        *whole, self._text = self._text.split(b"\n")
        self.lines += [json.loads(line, parse_float=Decimal) for line in whole]

    async def go_away(self) -> None:
        os.close(self._read)

    async def come_back(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.dup2(write, self._write)
        os.close(write)

    async def hang(self) -> None:
        os.set_blocking(self._write, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self._write, b"\n" * 4096)
        os.set_blocking(self._write, True)


def build() -> StdoutHarness:
    return StdoutHarness()
