"""PostgreSQL crashes, restarts, fails over, ends our sessions: everyone is told the truth again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from operator import lt
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from tests.conftest import eventually
from tests.faults.conftest import USERS, Line, line_of, prepare
from tests.faults.load import Load, user
from tests.faults.truth import held, truth, witnessing
from tests.servers import Postgres, Valkey

PURPOSES = ["leader", "doorbell", "sleep", "publisher"]


async def test_killed_with_9_under_load_every_total_is_right_after_and_told_again(
    own_line: tuple[Postgres, Line],
) -> None:
    server, line = own_line
    async with witnessing(line.valkey) as witness, line.leading() as daemon:
        async with line.load() as load:
            for crash in range(2):
                await eventually(load.count, partial(lt, 300 * (crash + 1)))
                await asyncio.to_thread(server.kill9)
                await daemon.until_state("disconnected")
                await asyncio.to_thread(server.start)
                await daemon.until_state("leading")
        await line.until_true()
        assert load.interrupted > 0
        assert len(daemon.logged("balances.republished")) == 2
        assert witness.backwards == []
        assert await witness.agrees(line.valkey)


async def test_commits_that_a_crash_took_back_are_taken_back_in_every_sink(
    own_postgres: Callable[..., Postgres], valkey: Valkey, tmp_path: Path
) -> None:
    server = own_postgres(wal_writer_delay="10000", wal_writer_flush_after="1GB")
    prepare(server.dsn())
    line = line_of(server.dsn(), valkey, tmp_path)
    one = user(1)
    async with line.leading() as daemon:
        await line.until_true()
        await line.run("CHECKPOINT")
        before = (await truth(line.dsn))[one]
        async with await psycopg.AsyncConnection.connect(line.dsn, autocommit=True) as connection:
            await connection.execute("SET synchronous_commit = off")
            await connection.execute(
                "INSERT INTO public.user_credits (user_id, credits, status) VALUES (%s, 7000, 'active')", (one,)
            )
            await eventually(lambda: held(valkey), lambda told: told[one]["credits"] >= 7000)
            early = (await held(valkey))[one]["version"]
            await asyncio.to_thread(server.kill9)
        await asyncio.to_thread(server.start)
        assert (await truth(line.dsn))[one] == before, "the crash was to take the commit back"
        await line.until_true()
        assert (await held(valkey))[one]["version"] > early
        await daemon.until_logged("balances.republished")


async def test_restarted_in_between_nothing_written_meanwhile_is_missed(own_line: tuple[Postgres, Line]) -> None:
    server, line = own_line
    async with line.leading() as daemon:
        await asyncio.to_thread(server.stop)
        await daemon.until_state("disconnected")
        await asyncio.to_thread(server.start)
        async with Load(line.dsn, USERS, clients=2) as load:
            await eventually(load.count, lambda written: written > 100)
        await line.until_true()
        await daemon.until_state("leading")


async def test_a_daemon_that_was_not_running_when_the_server_restarted_notices_it_too(
    own_line: tuple[Postgres, Line],
) -> None:
    server, line = own_line
    async with line.leading() as daemon:
        await line.until_true()
        assert await daemon.end() == 0
    # As if everything had been published an hour ago, and the server had been away since.
    await line.run("UPDATE creditsd.balances SET version = version - 3600000000")
    await asyncio.to_thread(server.restart)
    async with line.leading() as daemon:
        republished = await daemon.until_logged("balances.republished")
        assert republished["users"] == USERS


async def test_a_session_that_is_terminated_is_made_anew_whichever_it_is(line: Line) -> None:
    async with line.leading() as daemon:
        for purpose in PURPOSES:
            terminate = (
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                f"WHERE datname = current_database() AND application_name = 'creditsd {purpose}'"
            )
            async with line.load(clients=2):
                await eventually(partial(line.run, terminate), lambda ended: ended != [(0,)])
            await line.until_true()
            await daemon.until_state("leading")
            # And while nobody writes, so that it sleeps; the next write is seen all the same.
            await line.run(terminate)
            await line.run("UPDATE public.user_credits SET credits = credits + 1")
            await line.until_true()
        assert not daemon.ended


async def test_all_sessions_terminated_at_once_under_load(line: Line) -> None:
    async with line.leading() as daemon:
        async with line.load() as load:
            for turn in range(3):
                await eventually(load.count, partial(lt, 100 * turn))
                await line.run(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND application_name LIKE 'creditsd%'"
                )
        await line.until_true()
        await daemon.until_state("leading")


async def test_a_promoted_standby_is_followed_and_what_was_lost_with_the_primary_is_taken_back(
    own_postgres: Callable[..., Postgres], valkey: Valkey, tmp_path: Path
) -> None:
    primary = own_postgres()
    prepare(primary.dsn())
    line = line_of(primary.dsn(), valkey, tmp_path)
    with primary.standby() as standby:
        ports = f"{primary.port},{standby.port}"
        both = make_conninfo(line.dsn, host="127.0.0.1,127.0.0.1", port=ports, target_session_attrs="read-write")
        async with witnessing(valkey) as witness, line.with_env(CREDITSD_DSN=both).leading() as daemon:
            async with Load(both, USERS, clients=2) as load:
                await eventually(load.count, lambda written: written > 200)
                await asyncio.to_thread(primary.kill9)
                await asyncio.to_thread(standby.promote)
                await daemon.until_logged("balances.republished")
                again = load.written
                await eventually(load.count, lambda written: written > again + 100)
            await Line(standby.dsn(), valkey, line.env, tmp_path).until_true()
            assert witness.backwards == []
            assert await daemon.end() == 0
