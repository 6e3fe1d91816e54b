"""When a sink that was ill is well again, whoever its illness may have cost a try is tried once more, ahead of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.sinks import Rejection, SinkBusy
from tests.conftest import Database, eventually
from tests.integration.line import Line, MemorySink, user
from tests.integration.publishing import ADD, QUICK, Publishing, Reachable, current, newest, waiting

ADD_MANY = "INSERT INTO user_credits (user_id, credits, status) SELECT unnest(%s::uuid[]), 1, 'active'"
REFUSED = """
    INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, next_at, last_status, last_error)
    SELECT 'memory', b.user_id, b.version, 1, now() + interval '1 hour', %s, 'not today'
    FROM creditsd.balances AS b
    WHERE b.user_id = ANY (%s::uuid[])
"""
UP_TO_DATE = """
    INSERT INTO creditsd.sinks (name, cursor) SELECT 'memory', max(version) FROM creditsd.balances
    ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor
"""
EARLY = replace(QUICK, retry_delays_seconds=(3600.0, 3600.0), pull_forward_seconds=0.0)
LATER = "next_at > now() + interval '30 minutes'"


async def refused(installation: Database, line: Line, users: Sequence[str], status: int | None) -> None:
    """Have totals of these users wait for another try, an hour away."""
    installation.run(ADD_MANY, [list(users)])
    await line.settle()
    installation.run(REFUSED, [status, list(users)])
    installation.run(UP_TO_DATE)


async def ill_for_a_while(installation: Database, line: Line, sink: MemorySink, publisher: Any, name: str) -> None:
    """Have a sink be away until it was tried again, and then somebody's total arrive."""
    sink.failure, before = SinkUnavailable("away"), sink.tries
    installation.run(ADD, [name, 1])
    publisher.offer(await line.settle())
    await sink.until(lambda: sink.tries >= before + 3)
    sink.failure = None
    await sink.until(lambda: name in {each.user_id for each in sink.totals})
    await current(publisher)


def pulled(logs: list[Any]) -> list[int]:
    return [each["deliveries"] for each in logs if each["event"] == "deliveries.pulled_forward"]


async def test_whoever_is_refused_for_good_is_tried_ahead_once_and_then_by_the_schedule(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    await refused(installation, line, [user(0)], None)
    sink = MemorySink()
    sink.refuses = {user(0)}
    with capture_logs() as logs:
        async with publishing(Reachable(sink), newest=await newest(line), timings=EARLY) as publisher:
            for number in range(3):
                await ill_for_a_while(installation, line, sink, publisher, user(50 + number))
                await eventually(waiting(installation, f"attempt = 1 AND {LATER}"))
    assert pulled(logs) == [1]
    assert await waiting(installation)() == 1


async def test_whoever_was_refused_by_a_receiver_that_worked_is_not_tried_ahead(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    for number, status in enumerate((404, 422, 429, 500, 521)):
        await refused(installation, line, [user(number)], status)
    sink = MemorySink()
    sink.refuses = {user(number) for number in range(5)}
    with capture_logs() as logs:
        async with publishing(Reachable(sink), newest=await newest(line), timings=EARLY) as publisher:
            await ill_for_a_while(installation, line, sink, publisher, user(50))
            await eventually(waiting(installation, f"tried_at > refused_at AND {LATER}"), lambda found: found == 2)
    assert pulled(logs) == [2]


async def test_a_receiver_that_asks_for_fewer_was_not_ill_and_nobody_is_tried_ahead(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    class Limited(MemorySink):
        limited = True

        async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
            if not self.limited or len(totals) == 1:
                return await super().deliver(totals)
            self.limited = False
            await super().deliver(totals[:1])
            raise SinkBusy("sink memory: answered 429", 0.01, through=1)

    await refused(installation, line, [user(0)], 500)
    for number in range(1, 6):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    sink = Limited()
    with capture_logs() as logs:
        async with publishing(sink, newest=await newest(line), timings=EARLY) as publisher:
            await current(publisher)
    said = [each["event"] for each in logs if each["event"] in ("publisher.backed_off", "publisher.recovered")]
    assert said == ["publisher.backed_off", "publisher.recovered"]
    assert set(sink.newest) == {user(number) for number in range(1, 6)}
    assert pulled(logs) == []
    assert await waiting(installation, LATER)() == 1


async def test_they_are_tried_ahead_although_a_person_had_it_stand_still_meanwhile(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    await refused(installation, line, [user(0)], 500)
    sink = MemorySink()
    async with publishing(Reachable(sink), newest=await newest(line), timings=EARLY) as publisher:
        sink.failure = SinkUnavailable("away")
        installation.run(ADD, [user(50), 1])
        publisher.offer(await line.settle())
        await sink.until(lambda: sink.tries >= 3)

        async def halted() -> bool:
            return publisher.halted

        installation.run("UPDATE creditsd.sinks SET paused_at = now()")
        publisher.tell()
        await eventually(halted)
        sink.failure = None
        installation.run("UPDATE creditsd.sinks SET paused_at = NULL")
        publisher.tell()
        await sink.until(lambda: user(0) in sink.newest)


async def test_more_than_one_statement_takes_are_tried_ahead_and_nobody_waits_for_who_is_locked(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    users = [user(1000 + number) for number in range(2100)]
    await refused(installation, line, users, 500)
    sink = MemorySink()
    async with installation.connect(autocommit=False) as somebody:
        locked = "SELECT FROM creditsd.deliveries WHERE user_id = %s FOR UPDATE"
        await somebody.execute(locked, [users[1050]])
        with capture_logs() as logs:
            async with publishing(Reachable(sink), newest=await newest(line), timings=EARLY) as publisher:
                await ill_for_a_while(installation, line, sink, publisher, user(50))
                await eventually(waiting(installation), lambda found: found == 1)
    assert pulled(logs) == [2099]
    assert await waiting(installation, LATER)() == 1


@pytest.mark.parametrize("attempt", [1, 2])
async def test_the_try_ahead_of_time_costs_none(
    installation: Database, line: Line, publishing: Publishing, attempt: int
) -> None:
    await refused(installation, line, [user(0)], 503)
    installation.run("UPDATE creditsd.deliveries SET attempt = %s", [attempt])
    sink = MemorySink()
    sink.refuses = {user(0)}
    async with publishing(Reachable(sink), newest=await newest(line), timings=EARLY) as publisher:
        await ill_for_a_while(installation, line, sink, publisher, user(50))
        await eventually(waiting(installation, "tried_at > refused_at"))
        assert await waiting(installation, f"attempt = {attempt} AND {LATER}")() == 1
