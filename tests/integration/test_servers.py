"""The servers the other tests stand on do what they promise."""

from __future__ import annotations

import asyncio
import glob
import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.conftest import Database, eventually
from tests.proxy import Proxy
from tests.servers import Postgres, Valkey, alive


def test_a_database_is_fresh_and_speaks_the_version_asked_for(reference_table: Database) -> None:
    assert reference_table.run("SELECT count(*) FROM public.user_credits") == [(0,)]
    assert "CREATE TABLE public.user_credits" in reference_table.pg_dump("--schema-only")
    assert reference_table.psql("SELECT current_setting('server_version_num')::int / 10000").strip() == str(
        reference_table.server.version
    )


def test_a_server_killed_with_9_leaves_no_process_and_recovers_what_was_committed(
    own_postgres: Callable[..., Postgres],
) -> None:
    server = own_postgres(fsync="on")
    server.psql("CREATE TABLE t AS SELECT 1 AS x")
    with server.connect() as connection:
        backend = connection.info.backend_pid
        server.kill9()
    assert not alive(backend)
    server.start()
    assert server.psql("SELECT x FROM t").strip() == "1"


def test_a_standby_follows_and_refuses_writes(own_postgres: Callable[..., Postgres]) -> None:
    primary = own_postgres()
    with primary.standby() as standby:
        primary.psql("CREATE TABLE t AS SELECT 1 AS x")
        with standby.connect() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE u ()")


async def test_a_frozen_proxy_holds_back_and_a_cut_one_refuses(valkey: Valkey) -> None:
    async with Proxy(valkey.host, valkey.port) as proxy:
        client = redis.Redis(host=proxy.host, port=proxy.port, retry=Retry(NoBackoff(), 0))
        async with client:
            assert await client.set("k", "1")
            await proxy.freeze()
            late = asyncio.ensure_future(client.get("k"))
            done, _ = await asyncio.wait([late], timeout=0.05)
            assert not done
            await proxy.restore()
            assert await late == b"1"
            await proxy.cut()
            with pytest.raises(redis.ConnectionError):
                await client.get("k")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(proxy.host, proxy.port)
        await proxy.restore()
        async with redis.Redis(host=proxy.host, port=proxy.port) as again:
            assert await again.get("k") == b"1"


async def test_a_killed_process_takes_its_servers_with_it() -> None:
    program = (
        "import os; from tests.servers import *; p = Postgres().start(); v = Valkey().start();"
        "print(workshop().path, p.pid, v.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    directory, *pids = output.decode().split()

    async def left() -> list[str]:
        return [pid for pid in pids if alive(int(pid))] + glob.glob(directory)  # noqa: PTH207 (a Path here is ASYNC240)

    await eventually(left, lambda found: not found)
