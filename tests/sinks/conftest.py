from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.sinks import harness as harnesses
from tests.sinks.harness import Harness
from tests.sinks.valkey import Valkey
from tests.sinks.webhook_harness import Receiver


@pytest.fixture(params=harnesses.find())
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    built = harnesses.build(request.param)
    await built.start()
    try:
        yield built
    finally:
        await built.stop()


@pytest.fixture
def sink_valkey() -> Iterator[Valkey]:
    """A server of the test's own, to flush, fill and stop."""
    server = Valkey()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    server = Receiver()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
