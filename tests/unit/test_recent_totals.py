from __future__ import annotations

import asyncio
from decimal import Decimal

from creditsd.domain.total import Total, encode
from creditsd.http.operator.recent_totals import KEPT, RecentTotals, change
from tests.records import record

TOTAL = Total.nothing("one")


def totals(first: int, last: int) -> list[Total]:
    return [TOTAL._replace(version=version) for version in range(first, last + 1)]


def versions(found: tuple[object, int]) -> tuple[list[int], int]:
    kept, missed = found
    assert isinstance(kept, list)
    return [each.version for each in kept], missed


def test_who_looks_on_gets_what_is_new_and_is_told_what_was_missed() -> None:
    recent = RecentTotals()
    recent.offer(totals(1, 3))
    assert versions(recent.since(0)) == ([1, 2, 3], 0)
    assert versions(recent.since(2)) == ([3], 0)
    assert versions(recent.since(3)) == ([], 0)
    recent.offer(totals(4, 1003))
    assert versions(recent.since(3)) == (list(range(1004 - KEPT, 1004)), 1000 - KEPT)
    assert len(recent._newest) == KEPT


async def test_waiting_ends_with_news_or_with_its_time() -> None:
    recent = RecentTotals()
    await recent.wait(0, 0.001)
    waiting = [asyncio.create_task(recent.wait(0, 60)) for _ in range(3)]
    await asyncio.sleep(0)
    recent.offer(totals(1, 1))
    await asyncio.gather(*waiting)
    await recent.wait(0, 60)  # there is news already


def test_a_change_says_the_step_and_keeps_every_digit() -> None:
    before = record("12345678901234567890.5")
    told = encode(change(TOTAL._replace(credits=Decimal(12345678901234567891), previous_record=before)))
    assert b'"before":12345678901234567890.5' in told
    assert b'"credits":12345678901234567891,' in told
    assert change(TOTAL)["before"] is None
