"""The daemon stands still without having ended, or nobody reads what it says: others take over, or never notice."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
from pathlib import Path

from tests.acceptance.command import COMMAND, Running
from tests.conftest import eventually
from tests.faults.conftest import Line
from tests.servers import free_port


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
