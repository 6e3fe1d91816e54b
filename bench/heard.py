"""A subscriber that costs next to nothing while it listens: keeps bytes and moments, and reads them afterwards."""

from __future__ import annotations

import bisect
import re
import socket
import threading
import time
from types import TracebackType
from typing import Self

from tests.servers import Valkey

_CREDITS = re.compile(rb'"credits": ?(\d+)')


class Heard:
    """Everything published below `credits:`, with the moment it came."""

    def __init__(self, valkey: Valkey) -> None:
        self._link = socket.create_connection((valkey.host, valkey.port))
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._chunks: list[bytes] = []
        self._moments: list[float] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._link.sendall(b"PSUBSCRIBE credits:*\r\n")
        self._link.recv(1000)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._link.close()

    def silent_for(self) -> float:
        """Return how long nothing has come."""
        return time.perf_counter() - self._moments[-1] if self._moments else 0.0

    def count(self) -> int:
        """Return about how many messages have come."""
        return sum(chunk.count(b"pmessage") for chunk in self._chunks)

    def moments(self) -> dict[int, float]:
        """Return when each number of credits was first heard of."""
        ends, total = [], 0
        for chunk in self._chunks:
            total += len(chunk)
            ends.append(total)
        found: dict[int, float] = {}
        for match in _CREDITS.finditer(b"".join(self._chunks)):
            found.setdefault(int(match[1]), self._moments[bisect.bisect_left(ends, match.end())])
        return found

    def _listen(self) -> None:
        while chunk := self._link.recv(1 << 18):
            self._moments.append(time.perf_counter())
            self._chunks.append(chunk)
