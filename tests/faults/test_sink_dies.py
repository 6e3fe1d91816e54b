"""Valkey is away for a while, or comes back and has forgotten everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.acceptance.command import environment
from tests.conftest import Database, eventually
from tests.faults.conftest import USERS, Line, line_of
from tests.faults.load import fill, user
from tests.faults.receiver_down import Absence
from tests.faults.truth import client, differences, held, truth, witnessing
from tests.servers import Valkey

STALE = """
    SELECT
    FROM creditsd.balances AS b
    CROSS JOIN creditsd.totals(ARRAY[b.user_id], now(), 'no_active_subscription', 'on') AS t
    WHERE t.credits <> b.credits
"""


async def test_a_sink_that_was_away_gets_one_message_for_each_user_that_changed(
    prepared: Database, own_valkey: Callable[..., Valkey], tmp_path: Path
) -> None:
    valkey = own_valkey("--appendonly", "yes", "--appendfsync", "always")
    line = line_of(prepared.dsn, valkey, tmp_path)
    async with line.leading() as daemon:
        await line.until_true()
        valkey.kill()
        for amount in range(1, 8):
            await line.run(f"UPDATE public.user_credits SET credits = {amount * 100}")
            await eventually(partial(line.run, f"SELECT WHERE NOT EXISTS ({STALE})"))
        valkey.start()
        async with witnessing(valkey) as witness:
            await line.until_true()
            assert witness.heard <= USERS
        assert not daemon.ended


async def test_killed_under_load_and_back_with_its_data_it_is_told_the_rest(
    prepared: Database, own_valkey: Callable[..., Valkey], tmp_path: Path
) -> None:
    valkey = own_valkey("--appendonly", "yes", "--appendfsync", "always")
    line = line_of(prepared.dsn, valkey, tmp_path)
    async with line.leading() as daemon:
        async with line.load():
            for _ in range(2):
                await asyncio.sleep(0.3)
                valkey.kill()
                await daemon.until("/livez", lambda answer: answer[1]["sinks"]["redis"] not in ("current", "behind"))
                valkey.start()
                await daemon.until("/livez", lambda answer: answer[1]["sinks"]["redis"] in ("current", "behind"))
        await line.until_true()


async def test_a_receiver_away_in_the_middle_of_a_load_gets_one_request_a_user_and_not_one_a_change(
    prepared: Database, tmp_path: Path
) -> None:
    env = environment(CREDITSD_DSN=prepared.dsn)
    found = await Absence(tmp_path, env, prepared.dsn).happen(seconds=3, users=40, clients=4, pause_seconds=0.002)
    assert found.wrong == {}
    assert found.found_back > 0
    assert found.late <= found.users
    assert found.written_meanwhile > 3 * found.users


async def test_a_receiver_that_answers_500_to_everyone_is_probed_with_one_request_and_found_back_soon(
    prepared: Database, tmp_path: Path
) -> None:
    fill(prepared.dsn, 400)
    env = environment(CREDITSD_DSN=prepared.dsn)
    found = await Absence(tmp_path, env, prepared.dsn).malfunction(
        seconds=15, users=400, clients=4, pause_seconds=0.005
    )
    assert found.wrong == {}
    assert found.written > 400
    assert found.requests < 100
    assert (found.recovered_meanwhile, found.recovered) == (0, 1)
    assert found.right_again_seconds < 15, "as soon as a probe comes through: they stay close while it is away"


async def test_a_sink_that_forgot_everything_is_told_what_changes_and_the_rest_when_its_cursor_is_reset(
    prepared: Database, own_valkey: Callable[..., Valkey], tmp_path: Path
) -> None:
    """The cursor says what has been delivered, not what is still held: it must be set back by hand."""
    valkey = own_valkey()
    line = line_of(prepared.dsn, valkey, tmp_path)
    async with line.leading() as daemon:
        await line.until_true()
        valkey.restart()
        await line.run(f"UPDATE public.user_credits SET credits = 12345 WHERE user_id = '{user(1)}'")
        await eventually(lambda: held(valkey), lambda told: user(1) in told)
        assert len(await held(valkey)) == 1
        assert len(await differences(line.dsn, valkey)) == USERS - 1
        assert await daemon.end() == 0
    await line.run("UPDATE creditsd.sinks SET cursor = 0 WHERE name = 'redis'")
    async with line.leading():
        await line.until_true()


async def test_a_key_that_holds_something_else_keeps_only_its_own_user_waiting(line: Line) -> None:
    async with client(line.valkey) as link:
        await link.lpush(f"credits:{user(1)}", "not ours")
        async with line.leading() as daemon:
            others = {each for each in await truth(line.dsn) if each != user(1)}

            async def told() -> int:
                return sum([await link.type(f"credits:{each}") == b"string" for each in others])

            await eventually(told, lambda count: count == len(others))
            await link.delete(f"credits:{user(1)}")
            await line.until_true()
            assert not daemon.ended
