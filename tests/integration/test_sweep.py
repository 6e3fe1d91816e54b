"""The sweep: what nobody noticed is found by comparing everyone with the table, and told anew."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prometheus_client import generate_latest
from structlog.testing import capture_logs

from creditsd.totals import sweep
from tests.conftest import Database, eventually
from tests.integration.line import MemorySink, installed, user
from tests.integration.running import QUICK, running, until

OFTEN = replace(QUICK, sweep=sweep.Timings(share=0.5, page_seconds=0.01))
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
