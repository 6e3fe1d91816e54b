"""Standard output: one JSON line per total."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sys
import threading
from collections.abc import Sequence

from pydantic import BaseModel

from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.domain.total import Total
from creditsd.sinks import Rejection

MAX_BATCH = 1000

_Job = tuple[bytes, "asyncio.Future[None]"]


class Options(BaseModel, extra="forbid"):
    """There is nothing to set."""


class StdoutSink:
    """Writes lines in a thread of its own.

    A reader that is slow, or stopped, must slow this sink and nothing else, so a thread of its own does
    the writing. Not asyncio's pipe transport: that cannot write to a file, and it makes the descriptor
    non-blocking for everyone who shares it, a terminal's stderr included. Not the loop's executor: the
    interpreter waits for that at its end, and a stopped reader would hold it for ever.
    """

    max_batch = MAX_BATCH

    def __init__(self, name: str, descriptor: int) -> None:
        self._name = name
        self._descriptor = descriptor
        self._jobs: queue.SimpleQueue[_Job | None] | None = None

    async def open(self) -> None:
        """Start the writing thread."""
        await self.close()
        self._jobs = queue.SimpleQueue()
        threading.Thread(
            target=_write_all, args=(self._descriptor, self._jobs), name=f"sink-{self._name}", daemon=True
        ).start()

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Write one line per total and flush; returns when the system has taken them all."""
        if self._jobs is None:
            raise SinkUnavailable(f"sink {self._name}: is not open")
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put((b"".join(total.json() + b"\n" for total in totals), written))
        try:
            await written
        except OSError as error:
            raise SinkUnavailable(f"sink {self._name}: cannot write to stdout: {error.strerror}") from None
        return []

    async def held(self, user_id: str) -> int | None:  # noqa: ARG002  the protocol's signature
        """Return None: what was written is gone."""
        return None

    async def close(self) -> None:
        """Let the thread end after what it is writing; waits for nothing, `deliver` has done that."""
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None


def create(name: str, url: str, options: Options) -> StdoutSink:  # noqa: ARG001  every sink's signature
    """Make the sink for the url `stdout` or `stdout:`. Raises ConfigError."""
    if url.lower().rstrip("/") not in ("stdout", "stdout:"):
        raise ConfigError(f"sink {name}: write the url as stdout: and nothing more")
    try:
        return StdoutSink(name, sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):  # closed, replaced, or never there
        raise ConfigError(f"sink {name}: this process has no standard output") from None


def _write_all(descriptor: int, jobs: queue.SimpleQueue[_Job | None]) -> None:
    for payload, written in iter(jobs.get, None):
        error: OSError | None = None
        try:
            # A writer of our own per batch: it writes what a signal or a full pipe cut short, and no lock
            # of sys.stdout is held should the interpreter end meanwhile.
            with open(descriptor, "wb", closefd=False) as stream:
                stream.write(payload)
        except OSError as failure:
            error = failure
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            written.get_loop().call_soon_threadsafe(_tell, written, error)


def _tell(written: asyncio.Future[None], error: OSError | None) -> None:
    if written.done():  # cancelled meanwhile
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(error)
