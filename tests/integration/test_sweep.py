"""The sweep: what nobody noticed is found by comparing everyone with the table, and told anew."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prometheus_client import generate_latest
from structlog.testing import capture_logs

from creditsd.postgres import connections
from creditsd.totals import sweep
from creditsd.totals import timings as totals
from tests.conftest import Database, eventually
from tests.integration.line import MemorySink, installed, user
from tests.integration.running import QUICK, running, until

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')"
OFTEN = replace(QUICK, totals=totals.Timings(sweep=sweep.Timings(share=0.5, page_seconds=0.01)))
HOURS = 1e-6

GIVE = "INSERT INTO user_credits (user_id, credits, status) SELECT u, 5, 'active' FROM unnest(%s::uuid[]) AS u"


def drifts(logs: Sequence[Any]) -> set[str]:
    """What is said to have drifted, and how."""
    said = (each for each in logs if each["event"] == "balances.drifted")
    return {f"{kind} {each['one']}" for each in said for kind in ("missing", "wrong") if kind in each}


async def test_totals_that_were_altered_behind_its_back_are_found_and_told_anew(reference_table: Database) -> None:
    settings = await installed(reference_table, max_batch_users=10, sweep_hours=HOURS)
    reference_table.run(GIVE, [[user(number) for number in range(35)]])
    sink = MemorySink()
    with capture_logs() as logs:
        async with running(settings, sink, timings=OFTEN) as daemon:
            await sink.until(lambda: len(sink.newest) == 35)
            told = {user_id: total.version for user_id, total in sink.newest.items()}
            reference_table.run("UPDATE creditsd.balances SET credits = 7 WHERE user_id = %s", [user(3)])
            reference_table.run("DELETE FROM creditsd.balances WHERE user_id = %s", [user(31)])
            await sink.until(lambda: all(sink.newest[user(each)].version > told[user(each)] for each in (3, 31)))
            assert [str(sink.newest[user(each)].credits) for each in (3, 31)] == ["5", "5"]
            assert sink.newest[user(3)].cause == "repair"

            async def found() -> set[str]:
                return drifts(logs)

            await eventually(found, lambda said: said == {f"wrong {user(3)}", f"missing {user(31)}"})
            figures = generate_latest(daemon._surface._registry).decode()
    assert re.findall(r'creditsd_drift_total\{kind="(\w+)"\} [1-9]', figures) == ["missing", "wrong"]
    assert all(
        total.version == told[user_id] for user_id, total in sink.newest.items() if user_id not in (user(3), user(31))
    )
    assert reference_table.run("SELECT count(*) FROM creditsd.balances WHERE credits <> 5") == [(0,)]


async def test_nobody_has_drifted_whose_change_is_only_not_read_yet(reference_table: Database) -> None:
    settings = await installed(reference_table, max_batch_users=3, sweep_hours=HOURS)
    users = [user(number) for number in range(12)]
    reference_table.run(GIVE, [users])
    sink = MemorySink()
    with capture_logs() as logs:
        async with running(settings, sink, timings=OFTEN) as daemon:
            await until(daemon, "state", "leading")

            async def passes() -> int:
                return sum(each["event"] == "balances.swept" for each in logs)

            async with reference_table.connect() as writer:
                while await passes() < 5:
                    for each in users:
                        await writer.execute("UPDATE user_credits SET credits = credits + 1 WHERE user_id = %s", [each])
                    await asyncio.sleep(0)
    assert drifts(logs) == set()


async def test_who_cannot_be_kept_or_summed_up_is_passed_by_and_the_others_are_not(database: Database) -> None:
    database.run("CREATE TABLE user_credits (user_id text, credits numeric, status text)")
    settings = await installed(database, max_batch_users=5, sweep_hours=HOURS)
    dice = random.Random(9)
    long = "".join(chr(dice.randrange(33, 127)) for _ in range(9000))
    for name in ("a", "b", "c", "m", "x", "y", "z", long):
        database.run(ADD, [name])
    sink = MemorySink()
    with capture_logs() as logs:
        async with running(settings, sink, timings=OFTEN) as daemon:
            await sink.until(lambda: len(sink.newest) == 7)
            database.run("UPDATE user_credits SET credits = repeat('9', 131072)::numeric WHERE user_id = 'm'")
            database.run(
                "INSERT INTO user_credits SELECT u.* FROM user_credits AS u, generate_series(1, 11) WHERE user_id = 'm'"
            )
            told = sink.newest["z"].version
            database.run("UPDATE creditsd.balances SET credits = 7 WHERE user_id = 'z'")
            await sink.until(lambda: sink.newest["z"].version > told)
            assert daemon.state == "leading"
    assert [each for each in logs if each["event"] in ("balances.sweep_failed", "daemon.interrupted")] == []


async def test_a_sweep_goes_on_where_a_leadership_ended(reference_table: Database) -> None:
    settings = await installed(reference_table, max_batch_users=10)
    users = [user(number) for number in range(25)]
    reference_table.run(GIVE, [users])
    async with running(settings) as daemon:
        await until(daemon, "state", "leading")
    counts = Counts()
    one = sweep.Sweep(settings.policy, hours=1, page_users=10, rings=False, metrics=counts, timings=OFTEN.totals.sweep)
    pool = connections.pool(settings.dsn, purpose="test", max_size=1)
    async with pool:
        for compared in (10, 20, 25):
            job = asyncio.create_task(one.run(pool, at_rest=lambda: True, pause=asyncio.sleep))
            await counts.until(compared)
            job.cancel()
            await asyncio.wait([job])
    assert counts.compared == 25


class Counts:
    """Counts what a sweep compares, and has it wait where it was waited for."""

    def __init__(self) -> None:
        self.compared = 0
        self._changed = asyncio.Event()

    def swept(self, users: int) -> None:
        self.compared += users
        self._changed.set()

    def drifted(self, kind: str, users: int) -> None:
        raise AssertionError((kind, users))

    async def until(self, compared: int) -> None:
        while self.compared < compared:
            await self._changed.wait()
            self._changed.clear()
