"""The daemon stands still without having ended, or nobody reads what it says: others take over, or never notice."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
from pathlib import Path

from structlog.testing import capture_logs

from creditsd.daemon import election, leader_watch
from creditsd.daemon.app import Timings
from tests.acceptance.command import COMMAND, Running
from tests.conftest import Database, eventually
from tests.faults.conftest import Line, line_of
from tests.faults.load import user
from tests.integration.line import K_HELD, MemorySink, configured
from tests.integration.running import running, until
from tests.servers import Valkey, free_port


async def test_a_log_that_nobody_reads_stops_nothing(line: Line, tmp_path: Path) -> None:
    # The pipe was full after a while, and with it everything stood still, asleep: writers kept 8 % of their pace.
    port = free_port()
    env = {**line.env, "CREDITSD_HTTP__LISTEN": f"127.0.0.1:{port}", "CREDITSD_LOG__LEVEL": "debug"}
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)  # the least there is: a few lines
    process = await asyncio.create_subprocess_exec(
        COMMAND, "run", env=env, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing
    )
    os.close(writing)
    daemon = Running(process, tmp_path / "none", f"127.0.0.1:{port}")
    try:
        await daemon.until_ready()
        async with line.load() as load:
            await eventually(load.count, lambda written: written > 500, seconds=60)
        await line.until_true()
        assert (await daemon.ask("/livez"))[0] == 200
        assert await daemon.end() == 0
    finally:
        os.close(reading)
        if not daemon.ended:
            daemon.send(signal.SIGKILL)
        await daemon.wait()


async def test_a_leader_that_is_frozen_in_its_sleep_is_ended_by_a_standby(
    prepared: Database, valkey: Valkey, tmp_path: Path
) -> None:
    # Sixteen writers kept 8 % of their pace for as long as it lasted, and nobody else could lead.
    line = line_of(prepared.dsn, valkey, tmp_path)
    soon = Timings(election=election.Timings(standby_seconds=0.05, leader=leader_watch.Timings(frozen_seconds=2)))
    sink = MemorySink()
    async with line.leading() as leader:
        await eventually(lambda: line.run(K_HELD), lambda locks: ("ExclusiveLock", True) in locks)
        leader.send(signal.SIGSTOP)
        with capture_logs() as logs:
            async with running(configured(prepared), sink, timings=soon) as standby:
                await until(standby, "state", "leading")
                name = user(1)
                prepared.run("UPDATE user_credits SET credits = 70000 WHERE user_id = %s", [name])
                await sink.until(lambda: name in sink.newest and sink.newest[name].credits >= 70000)
                sessions = (
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name IN ('creditsd leader', 'creditsd sleep', 'creditsd doorbell')"
                )
                await eventually(lambda: line.run(sessions), lambda rows: rows == [(3,)])  # its own
                leader.send(signal.SIGCONT)
                await leader.until_state("standby")
                assert standby.state == "leading"
        (frozen,) = [event for event in logs if event["event"] == "daemon.leader_frozen"]
        assert frozen["seconds"] >= 2
        assert len(next(event["processes"] for event in logs if event["event"] == "daemon.leader_ended")) == 3
        await leader.until_state("leading")
        await line.until_true()
