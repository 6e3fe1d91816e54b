"""Several idle transaction poolers behind one address pass for one in session mode, until somebody else uses them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace

import psycopg
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from creditsd.capture import doorbell
from creditsd.domain.errors import ConfigError
from creditsd.postgres import connections
from tests.conftest import Database, eventually
from tests.integration.line import MemorySink, installed
from tests.integration.running import QUICK, running
from tests.pgbouncer import PgBouncer
from tests.proxy import Proxy


class Balancer(Proxy):
    """Leads each connection to the next of some servers."""

    def __init__(self, *ports: int) -> None:
        super().__init__("127.0.0.1", ports[0])
        self._ports = itertools.cycle(ports)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lead_to("127.0.0.1", next(self._ports))
        await super()._link(reader, writer)


async def test_a_session_that_passed_for_our_own_is_left_as_it_was_once_another_one_serves_us(
    reference_table: Database, pgbouncer: Callable[..., PgBouncer]
) -> None:
    settings = await installed(reference_table)
    poolers = [pgbouncer(reference_table, pool_size=2) for _ in range(4)]
    quick = replace(QUICK, doorbell=doorbell.Timings(heartbeat_seconds=0.1, crowded_heartbeat_seconds=0.1))
    async with Balancer(*(each.port for each in poolers)) as balancer:
        dsn = make_conninfo(poolers[0].dsn, host=balancer.host, port=balancer.port)
        async with connections.connected(dsn, purpose="test", direct=True) as connection:
            assert not connections.is_shared(connection)  # that is how they pass
            for each in poolers:
                with closing(each.connect()) as taken, taken.transaction():
                    taken.execute("SELECT")
                    await connections.rows(connection, "SELECT 1")
        with capture_logs() as logs, suppress(ConfigError):  # where they are seen through at the start
            async with running(settings.model_copy(update={"dsn": dsn}), MemorySink(), timings=quick):

                async def refused() -> list[str]:
                    for each in poolers:  # whoever comes while the application works gets the other session
                        # The one that served us may end in the moment between two of its transactions.
                        with suppress(psycopg.Error), closing(each.connect()) as taken, taken.transaction():
                            taken.execute("SELECT")
                            await asyncio.sleep(0.15)
                    said = (event["reason"] for event in logs if event["event"] == "daemon.interrupted")
                    return [reason for reason in said if "lends its sessions to others" in reason]

                assert await eventually(refused)
    for each in poolers:
        assert [(lent.locks, lent.channels, lent.statements) for lent in each.look()] == [([], [], 0)] * 2
        assert {lent.settings["synchronous_commit"] for lent in each.look()} == {"on"}
