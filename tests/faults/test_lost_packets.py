"""A leader whose packets are dropped: neither side hears of it, and a standby takes over all the same."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from tests.acceptance.command import running
from tests.conftest import eventually
from tests.faults.another_machine import AnotherMachine, another_machine
from tests.faults.conftest import line_of, prepare
from tests.integration.line import K_HELD
from tests.servers import Postgres, Valkey

REPLACED_WITHIN_SECONDS = 30


@pytest.fixture
def far() -> Iterator[AnotherMachine]:
    with contextlib.ExitStack() as stack:
        try:
            machine = stack.enter_context(another_machine())
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no right to make network namespaces")
        yield machine


@pytest.mark.parametrize("clients", [0, 4], ids=["idle", "under load"])
async def test_it_is_replaced_within_half_a_minute(
    far: AnotherMachine, own_postgres: Callable[..., Postgres], valkey: Valkey, tmp_path: Path, clients: int
) -> None:
    # Under steady writes it took 16 minutes: keepalives wait while anything is unacknowledged.
    server = own_postgres(listen_addresses=f"127.0.0.1,{far.here}")
    server.admit(far.network)
    prepare(server.dsn())
    line = line_of(server.dsn(), valkey, tmp_path)
    there = line.with_env(CREDITSD_DSN=make_conninfo(line.dsn, host=far.here), CREDITSD_SINKS="")
    async with running(tmp_path, env=there.env, through=far.through) as leader:
        await eventually(lambda: line.run(K_HELD), lambda locks: ("ExclusiveLock", True) in locks)
        async with line.daemon() as standby:
            await standby.until_state("standby")
            async with line.load(clients):
                lost_at = time.monotonic()
                far.lose_packets()
                await standby.until_state("leading", seconds=2 * REPLACED_WITHIN_SECONDS)
                replaced_after = time.monotonic() - lost_at
            await line.until_true()
        assert not leader.ended
    assert replaced_after < REPLACED_WITHIN_SECONDS
