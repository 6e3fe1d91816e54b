"""What every sink promises, run over every one of them with its real receiver."""

from __future__ import annotations

import asyncio
import json
import traceback
from decimal import Decimal
from typing import Any

import pytest

from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from tests.sinks.harness import VERSION, Harness, total

CLOSE_SECONDS = 4.0  # every sink names 2 s for itself; the rest is for a busy machine

ODD_USERS = [
    'x","version":9999999999999999,"y":"',
    "quote\" backslash\\ {brace} %s 'tick'",
    "Zoë 🎫 \u2028",
    "a:b:c",
    "42",
]


def as_read(sent: Total) -> dict[str, Any]:
    return dict(json.loads(sent.json(), parse_float=Decimal))


async def test_a_total_arrives(harness: Harness) -> None:
    sink = harness.make()
    await sink.open()
    try:
        assert list(await sink.deliver([total()])) == []
        assert await harness.received("u1") == as_read(total())
        assert await harness.received("u2") is None
    finally:
        await sink.close()


async def test_credits_arrive_with_every_digit(harness: Harness) -> None:
    sink = harness.make()
    await sink.open()
    try:
        for number, amount in enumerate(["0.1", "-3", "123456789012345678901234567890.123456789", "1E+30"]):
            await sink.deliver([total(f"u{number}", credits=Decimal(amount))])
            received = await harness.received(f"u{number}")
            assert received is not None
            assert received["credits"] == Decimal(amount)
    finally:
        await sink.close()


async def test_repeated_delivery_is_harmless(harness: Harness) -> None:
    sink = harness.make()
    await sink.open()
    try:
        for _ in range(3):
            assert list(await sink.deliver([total()])) == []
        assert await harness.received("u1") == as_read(total())
    finally:
        await sink.close()


async def test_an_older_version_after_a_newer_one_changes_nothing(harness: Harness) -> None:
    sink = harness.make()
    await sink.open()
    try:
        newer, older = total(version=VERSION + 1, credits=Decimal(7)), total(version=VERSION)
        await sink.deliver([newer])
        assert list(await sink.deliver([older])) == []
        assert await harness.received("u1") == as_read(newer)
    finally:
        await sink.close()


async def test_a_newer_version_replaces_the_older_one(harness: Harness) -> None:
    sink = harness.make()
    await sink.open()
    try:
        for step in range(3):
            await sink.deliver([total(version=VERSION + step, credits=Decimal(step))])
        assert await harness.received("u1") == as_read(total(version=VERSION + 2, credits=Decimal(2)))
    finally:
        await sink.close()


async def test_a_user_id_may_be_any_text(harness: Harness) -> None:
    sink = harness.make()
    await sink.open()
    try:
        for user_id in ODD_USERS:
            await sink.deliver([total(user_id)])
            await sink.deliver([total(user_id, VERSION + 1, credits=Decimal(1))])
            assert await harness.received(user_id) == as_read(total(user_id, VERSION + 1, credits=Decimal(1)))
            assert await sink.held(user_id) in (None, VERSION + 1)
    finally:
        await sink.close()


async def test_a_full_batch_arrives_whole(harness: Harness) -> None:
    sink = harness.make()
    batch = [total(f"u{i}", VERSION + i) for i in range(sink.max_batch)]
    await sink.open()
    try:
        assert list(await sink.deliver(batch)) == []
        assert list(await sink.deliver([])) == []
        for sent in (batch[0], batch[len(batch) // 2], batch[-1]):
            assert await harness.received(sent.user_id) == as_read(sent)
    finally:
        await sink.close()


async def test_held_is_the_version_or_nothing(harness: Harness) -> None:
    sink = harness.make()
    await sink.open()
    try:
        assert await sink.held("u1") is None
        await sink.deliver([total()])
        assert await sink.held("u1") in (None, VERSION)
    finally:
        await sink.close()


async def test_an_unreachable_sink_says_so_and_works_again_after(harness: Harness) -> None:
    sink = harness.make()
    await sink.open()
    try:
        await sink.deliver([total()])
        await harness.go_away()
        for _ in range(2):
            with pytest.raises(SinkUnavailable):
                await sink.deliver([total(version=VERSION + 1), total("u2")])
        await harness.come_back()
        assert list(await sink.deliver([total(version=VERSION + 2), total("u2")])) == []
        assert await harness.received("u1") == as_read(total(version=VERSION + 2))
        assert await harness.received("u2") == as_read(total("u2"))
    finally:
        await sink.close()


async def test_no_secret_is_in_an_error(harness: Harness) -> None:
    sink = harness.make()
    assert not any(secret in repr(sink) for secret in harness.secrets)
    await sink.open()
    try:
        await harness.go_away()
        with pytest.raises(SinkUnavailable) as failure:
            await sink.deliver([total()])
    finally:
        await sink.close()
    told = str(failure.value) + "".join(traceback.format_exception(failure.value, chain=True))
    assert "\n" not in str(failure.value)
    assert not any(secret in told for secret in harness.secrets)


async def test_closing_is_bounded_and_may_be_repeated(harness: Harness) -> None:
    sink = harness.make()
    await sink.close()  # never opened
    await sink.open()
    await sink.deliver([total()])
    await harness.hang()
    stuck = asyncio.create_task(_deliver(sink, [total(version=VERSION + 1)]))
    await asyncio.wait([stuck], timeout=0.2)  # let it reach the receiver that takes nothing
    assert not stuck.done()
    stuck.cancel()
    async with asyncio.timeout(CLOSE_SECONDS):
        await asyncio.wait([stuck])
        await sink.close()
        await sink.close()
    assert stuck.cancelled()


async def test_a_hanging_receiver_does_not_stop_the_loop(harness: Harness) -> None:
    sink = harness.make()
    await sink.open()
    await harness.hang()
    stuck = asyncio.create_task(_deliver(sink, [total(f"u{i}") for i in range(500)]))
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(50):
        await asyncio.wait([stuck], timeout=0.001)
    assert loop.time() - began < CLOSE_SECONDS
    assert not stuck.done()
    stuck.cancel()
    await asyncio.wait([stuck])
    await sink.close()


async def _deliver(sink: Any, totals: list[Total]) -> None:
    await sink.deliver(totals)
