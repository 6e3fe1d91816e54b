"""Several idle transaction poolers behind one address pass for one in session mode, until somebody else uses them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace

import psycopg
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from creditsd.capture import doorbell
from creditsd.postgres import connections
from tests.conftest import Database, eventually, settled
from tests.integration.line import MemorySink, installed
from tests.integration.running import QUICK, running, until
from tests.pgbouncer import Connection, PgBouncer
from tests.proxy import Proxy


class Balancer(Proxy):
    """Leads each connection to the next of some servers."""

    def __init__(self, *ports: int) -> None:
        super().__init__("127.0.0.1", ports[0])
        self._ports = itertools.cycle(ports)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lead_to("127.0.0.1", next(self._ports))
        await super()._link(reader, writer)


LEADER = (
    "SELECT l.pid FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE l.locktype = 'advisory' "
    "AND l.objid = 1249075342 AND l.granted AND a.datname = current_database()"
)


async def take(pooler: PgBouncer, pid: int, until: Callable[[], Awaitable[object]]) -> None:
    """Take a session, where this pooler has it, until something is so; leave the others to whoever wants one."""
    with contextlib.suppress(psycopg.OperationalError), ExitStack() as stack:  # it is ended by whoever had it
        sessions = await asyncio.to_thread(stack.enter_context, pooler.every_session())
        pids = [await asyncio.to_thread(served_by, each) for each in sessions]
        for session, its_pid in zip(sessions, pids, strict=True):
            if its_pid != pid:
                await asyncio.to_thread(session.execute, "COMMIT")
        if pid in pids:
            await until()


def served_by(session: Connection) -> int:
    ((pid,),) = session.execute("SELECT pg_backend_pid()").fetchall()
    return int(pid)


async def test_a_session_that_passed_for_our_own_is_left_as_it_was_once_another_one_serves_us(
    reference_table: Database, pgbouncer: Callable[..., PgBouncer]
) -> None:
    settings = await installed(reference_table, wakeup="poll")
    poolers = [pgbouncer(reference_table, pool_size=3) for _ in range(4)]
    quick = replace(QUICK, doorbell=doorbell.Timings(heartbeat_seconds=0.1, crowded_heartbeat_seconds=0.1))
    async with Balancer(*(each.port for each in poolers)) as balancer:
        dsn = make_conninfo(poolers[0].dsn, host=balancer.host, port=balancer.port)
        async with connections.connected(dsn, purpose="test", direct=True) as connection:
            assert not connections.is_shared(connection)  # that is how they pass
        with capture_logs() as logs:
            sharing = settings.model_copy(update={"dsn": dsn})
            async with running(sharing, MemorySink(), timings=quick) as daemon:
                await until(daemon, "state", "leading")

                async def refused() -> list[str]:
                    said = (event["reason"] for event in logs if event["event"] == "daemon.interrupted")
                    return [reason for reason in said if "lends its sessions to others" in reason]

                async def disturbed() -> list[str]:
                    for (leader,) in reference_table.run(LEADER):
                        for each in poolers:
                            await take(each, leader, lambda: settled(refused, seconds=1))
                    return await refused()

                assert await eventually(disturbed, seconds=30)
    for each in poolers:
        found = each.look()
        assert [(lent.locks, lent.channels, lent.statements) for lent in found] == [([], [], 0)] * 3
        assert {lent.settings["synchronous_commit"] for lent in found} == {"on"}
