"""The daemon is killed, frozen, doubled: no total is lost, and none goes back."""

from __future__ import annotations

import signal

from tests.conftest import eventually
from tests.faults.conftest import USERS, Line
from tests.faults.kill import Killings
from tests.faults.truth import Witness, witnessing

TERMINATE = """
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'creditsd%'
"""


async def test_killed_with_9_again_and_again_under_load_every_total_is_right_after(line: Line) -> None:
    killings = Killings(line.directory, line.env, line.dsn, line.valkey)
    found = await killings.happen(kills=3, seconds=5, users=USERS, clients=3)
    assert found.wrong == {}
    assert found.backwards == []
    assert found.agrees
    assert found.published > 0


async def test_a_daemon_killed_while_it_backfills_goes_on_where_it_was(line: Line) -> None:
    slowly = line.with_env(CREDITSD_MAX_BATCH_USERS="1")
    async with slowly.daemon() as daemon:
        await eventually(lambda: line.run("SELECT FROM creditsd.balances LIMIT 50"), lambda rows: len(rows) == 50)
        await daemon.end(signal.SIGKILL)
        assert not daemon.logged("balances.resync_done")
    (row,) = await line.run("SELECT resync_cause, resync_users FROM creditsd.reader")
    assert row[0] == "first start"
    assert int(str(row[1])) >= 40
    async with line.leading() as daemon:
        await line.until_true()
        assert daemon.logged("balances.resync_done")[0]["users"] <= USERS - 40


async def test_a_standby_takes_over_from_a_leader_that_is_killed(line: Line) -> None:
    async with witnessing(line.valkey) as witness, line.leading() as leader, line.daemon() as standby:
        await standby.until_state("standby")
        assert (await standby.ask("/readyz"))[0] == 200
        async with line.load():
            await eventually(lambda: _heard(witness), lambda heard: heard > USERS + 20)
            await leader.end(signal.SIGKILL)
            await standby.until_state("leading")
        await line.until_true()
        assert witness.backwards == []


async def test_a_leader_that_ends_hands_over_within_seconds(line: Line) -> None:
    async with line.leading() as leader, line.daemon() as standby:
        await standby.until_state("standby")
        assert await leader.end() == 0
        await standby.until_state("leading")


async def test_a_frozen_leader_whose_connections_the_server_dropped_wakes_as_a_standby(line: Line) -> None:
    async with witnessing(line.valkey) as witness, line.leading() as frozen:
        async with line.load():
            frozen.send(signal.SIGSTOP)
            await line.run(TERMINATE)
            async with line.leading() as other:
                await other.until_state("leading")
                frozen.send(signal.SIGCONT)
                await frozen.until_state("standby", seconds=45)
                assert len(frozen.logged("daemon.led")) == 1
                assert (await other.ask("/livez"))[1]["state"] == "leading"
        assert witness.backwards == []
        await frozen.until_state("leading")
        await line.until_true()
        assert witness.backwards == []


async def _heard(witness: Witness) -> int:
    return witness.heard
