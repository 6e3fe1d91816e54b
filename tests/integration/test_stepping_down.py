"""A publisher whose daemon leads no more hands everything back: it touches neither its sink nor its row."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from creditsd.config.settings import Settings
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.sinks import Rejection
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, TERMINATE_LEADER, USER, Line, MemorySink, user
from tests.integration.publishing import ADD, Publishing, Reachable, current, cursor, newest, waiting
from tests.integration.running import running, until


class CutOff(MemorySink):
    """Notes whether a delivery was cut off in the middle."""

    cut_off = 0

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        try:
            return await super().deliver(totals)
        except asyncio.CancelledError:
            self.cut_off += 1
            raise


async def test_a_delivery_is_cut_off_in_the_middle_and_nothing_is_saved_of_it(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    for number in range(4):
        installation.run(ADD, [user(number), 1])
    await line.settle()
    sink = CutOff(max_batch=2)
    async with publishing(sink, newest=await newest(line)) as publisher:
        sink.gate.clear()
        await eventually(lambda: begun(sink), lambda tries: tries == 1)
        publisher.step_down()
        await eventually(lambda: cut_off(sink), lambda times: times == 1)
        sink.gate.set()
        publisher.offer(await line.settle())
        publisher.tell()
        # Another daemon tells the first page, and gives leadership back.
        versions = sorted(each for (each,) in installation.run("SELECT version FROM creditsd.balances"))
        installation.run("UPDATE creditsd.sinks SET cursor = %s", [versions[1]])
        assert (sink.tries, sink.opened, publisher.behind) == (1, 1, False)
        publisher.lead(versions[3])
        await current(publisher)
    assert [total.version for total in sink.totals] == versions[2:]
    assert sink.closed >= 2  # what was under way must not arrive after what comes next
    assert cursor(installation)[0] == versions[3]


async def test_an_answer_that_has_come_lets_no_delivery_go_on(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    installation.run(ADD, [USER, 1])
    await line.settle()
    sink = CutOff()
    async with publishing(sink, newest=await newest(line)) as publisher:
        sink.gate.clear()
        await eventually(lambda: begun(sink), lambda tries: tries == 1)
        sink.gate.set()  # its turn comes, and it is still to hear of that
        publisher.step_down()
        await eventually(lambda: cut_off(sink), lambda times: times == 1)
        assert sink.totals == []
        publisher.lead(await newest(line))
        await current(publisher)
    assert sink.newest[USER].credits == 1


async def test_a_publisher_that_is_cancelled_just_after_it_steps_down_ends(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    installation.run(ADD, [USER, 1])
    await line.settle()
    sink = CutOff()
    async with asyncio.timeout(60), publishing(sink, newest=await newest(line), killed=True) as publisher:
        sink.gate.clear()
        await eventually(lambda: begun(sink), lambda tries: tries == 1)
        publisher.step_down()  # the end of the block cancels it, and waits for it
    assert sink.cut_off == 1


async def test_it_waits_out_no_pause_of_a_leadership_that_is_over(
    installation: Database, line: Line, publishing: Publishing
) -> None:
    installation.run(ADD, [USER, 1])
    await line.settle()
    sink = MemorySink()
    sink.failure = SinkUnavailable("sink memory: away")
    async with publishing(Reachable(sink), newest=await newest(line)) as publisher:
        await sink.until(lambda: sink.tries >= 2)
        publisher.step_down()
        tries, saved = sink.tries, cursor(installation)
        assert publisher.error is None
        installation.run("UPDATE creditsd.sinks SET last_error = NULL")
        sink.failure = None
        publisher.lead(await newest(line))
        await current(publisher)
        assert sink.tries == tries + 1
    assert saved[0] == 0
    assert cursor(installation) == (await newest(line), 1, None)


async def test_a_former_leader_tries_nothing_again_beside_the_new_one_and_heeds_a_pause(
    installation: Database, settings: Settings
) -> None:
    first, second = MemorySink(), MemorySink()
    first.refuses = second.refuses = {USER}
    async with running(settings, first) as former:
        await until(former, "doorbell", "asleep")
        installation.run(ADD, [USER, 1])
        await eventually(waiting(installation), lambda found: found == 1)
        async with running(settings, second) as successor:
            await until(successor, "state", "standby")
            installation.run(TERMINATE_LEADER)
            await until(former, "state", "standby")
            await until(successor, "state", "leading")
            tries = first.tries
            second.refuses = set()
            installation.run("UPDATE creditsd.deliveries SET next_at = now()")
            installation.run("NOTIFY creditsd, 'sinks'")
            await second.until(lambda: USER in second.newest)
            installation.run("UPDATE creditsd.sinks SET paused_at = now()")
            installation.run("NOTIFY creditsd, 'sinks'")
            await until(successor, "sinks", {"memory": "paused (creditsd sinks resume memory)"})
            installation.run(ADD, [OTHER, 1])
            stored = "SELECT count(*) FROM creditsd.balances"
            await eventually(lambda: asyncio.to_thread(installation.run, stored), lambda rows: rows == [(2,)])
            assert first.tries == tries
            assert USER not in first.newest
            assert OTHER not in second.newest
            installation.run("UPDATE creditsd.sinks SET paused_at = NULL")
            installation.run("NOTIFY creditsd, 'sinks'")
            await second.until_credits(OTHER, 1)
    assert OTHER not in first.newest


async def begun(sink: MemorySink) -> int:
    return sink.tries


async def cut_off(sink: CutOff) -> Any:
    return sink.cut_off
