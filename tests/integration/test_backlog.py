"""What a sink is told that is behind: pages of the table, read once, and nothing that grows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from creditsd.delivery import backlog
from creditsd.delivery.timings import BOUNDS
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.postgres.batches import batch
from creditsd.sinks import Rejection
from tests.conftest import Database, eventually
from tests.integration.line import USER, Line, MemorySink, user
from tests.integration.publishing import ADD, Publishing, current, made, newest


async def test_what_is_stored_while_a_page_is_read_is_not_skipped(
    installation: Database, line: Line, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The head belongs to a total that is gone, so the page is empty; before that is known, something new is stored.
    read, go = asyncio.Event(), asyncio.Event()
    really = batch

    async def slowly(*arguments: Any) -> Any:
        found = await really(*arguments)
        read.set()
        await go.wait()
        return found

    monkeypatch.setattr(backlog, "batch", slowly)
    sink = MemorySink()
    async with publishing(sink, newest=10) as publisher:
        await read.wait()
        installation.run(ADD, [USER, 1])
        publisher.offer(await line.settle())
        go.set()
        await current(publisher)
    assert sink.newest[USER].credits == 1


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """After which version each page of the table was read."""
    found: list[int] = []
    really = batch

    async def noted(connection: Any, query: str, asked: Any) -> Any:
        found.append(asked["version"])
        return await really(connection, query, asked)

    monkeypatch.setattr(backlog, "batch", noted)
    return found


async def pages_read(reads: list[int], number: int) -> None:
    """Wait until so many have been asked for."""

    async def count() -> int:
        return len(reads)

    await eventually(count, lambda found: found == number)


class AwayOnce(MemorySink):
    """Fails as it is told to, the first time."""

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        try:
            return await super().deliver(totals)
        finally:
            self.failure = None


async def test_the_next_page_is_read_while_one_is_delivered_and_forgotten_where_that_fails(
    installation: Database, line: Line, publishing: Publishing, reads: list[int]
) -> None:
    for number in range(5):
        installation.run(ADD, [user(number), 1])
        await line.settle()
    sink = AwayOnce(max_batch=2)
    sink.gate.clear()
    async with publishing(sink, newest=await newest(line)) as publisher:
        await pages_read(reads, 2)
        assert sink.deliveries == []
        installation.run(ADD, [user(2), 1])  # who stands on the page that was read ahead
        publisher.offer(await line.settle())
        sink.failure = SinkUnavailable("sink memory: it is away")
        sink.gate.set()
        await current(publisher)
    assert sink.tries == 1 + len(sink.deliveries)
    assert [total.credits for total in sink.totals if total.user_id == user(2)] == [Decimal(2)]
    assert [len(delivery) for delivery in sink.deliveries] == [1, 2, 2]  # first a probe


async def test_what_is_handed_over_after_a_full_page_has_no_next_one(
    installation: Database, line: Line, publishing: Publishing, reads: list[int]
) -> None:
    for number in range(2):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    sink = MemorySink(max_batch=2)

    async with publishing(sink, newest=await newest(line)) as publisher:
        await current(publisher)
        await pages_read(reads, 2)  # the page, and that there is no other
        publisher.offer([made(publisher.cursor + 1)])
        await sink.until(lambda: len(sink.deliveries) == 2)
        publisher.offer([made(publisher.cursor + 2)])
        await current(publisher)
    assert [len(delivery) for delivery in sink.deliveries] == [2, 1, 1]
    assert len(reads) == 2


async def test_nothing_grows_behind_a_sink_that_does_not_answer(publishing: Publishing) -> None:
    sink = MemorySink()
    sink.gate.clear()
    async with publishing(sink, bounds=replace(BOUNDS, fresh_totals=10)) as publisher:
        publisher.offer([made(1)])
        for version in range(2, 200):
            publisher.offer([made(version, user(version))])
            assert sum(len(batch) for batch in publisher._backlog._fresh) <= 10
        sink.gate.set()
        await current(publisher)
