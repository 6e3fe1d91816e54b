"""The network between the daemon and its servers is cut, frozen, dropped, restored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.acceptance.command import Running
from tests.conftest import eventually
from tests.faults.conftest import Line
from tests.faults.truth import held, witnessing
from tests.proxy import Proxy


@asynccontextmanager
async def proxied(line: Line) -> AsyncIterator[tuple[Proxy, Running]]:
    """Lead through a proxy in front of PostgreSQL; the application goes there directly."""
    said = conninfo_to_dict(line.dsn)
    async with Proxy(str(said["host"]), int(str(said["port"]))) as proxy:
        through = line.with_env(CREDITSD_DSN=make_conninfo(line.dsn, port=proxy.port))
        async with through.leading() as daemon:
            yield proxy, daemon


async def test_cut_off_from_postgresql_it_waits_and_then_catches_up(line: Line) -> None:
    async with witnessing(line.valkey) as witness, proxied(line) as (proxy, daemon):
        async with line.load():
            await proxy.cut()
            await daemon.until_state("disconnected")
            assert (await daemon.ask("/livez"))[0] == 200
            assert (await daemon.ask("/readyz"))[0] == 503
            await proxy.restore()
            await daemon.until_state("leading")
        await line.until_true()
        assert witness.backwards == []
        assert await daemon.end() == 0


async def test_when_packets_are_held_back_and_then_let_through_nothing_is_missed(line: Line) -> None:
    async with proxied(line) as (proxy, daemon):
        async with line.load() as load:
            await proxy.freeze()
            meanwhile = load.written + 200
            await eventually(load.count, lambda written: written > meanwhile)
            await proxy.restore()
        await line.until_true()
        assert not daemon.ended


async def test_connections_that_are_reset_again_and_again_are_made_anew(line: Line) -> None:
    async with proxied(line) as (proxy, daemon):
        async with line.load():
            for _ in range(3):
                led = len(daemon.logged("daemon.led"))
                await proxy.drop()
                await daemon.until_logged("daemon.led", times=led + 1)  # it is away for a few milliseconds
                await daemon.until_state("leading")
        await line.until_true()


@pytest.mark.parametrize("fault", ["cut", "frozen"])
async def test_a_sink_that_cannot_be_reached_stops_nobody_and_gets_only_the_newest_totals(
    line: Line, fault: str
) -> None:
    async with Proxy(line.valkey.host, line.valkey.port) as proxy:
        sinks = (
            f'[{{"name": "here", "url": "{line.valkey.url}"}},'
            f' {{"name": "there", "url": "redis://{proxy.host}:{proxy.port}/1", "prefix": "there:",'
            ' "timeout_seconds": 0.5}]'
        )
        async with line.with_env(CREDITSD_SINKS=sinks).leading() as daemon:
            await line.until_true()
            await (proxy.cut() if fault == "cut" else proxy.freeze())
            for amount in range(1, 6):
                await line.run(f"UPDATE public.user_credits SET credits = {amount * 1000}")
                await line.until_true()  # the other sink does not wait
            await daemon.until("/livez", lambda answer: answer[1]["sinks"]["there"] not in ("current", "behind"))
            told_here = await held(line.valkey)
            why = "SELECT last_error FROM creditsd.sinks WHERE name = 'there'"
            assert str(proxy.port) in str((await eventually(lambda: line.run(why), lambda rows: rows[0][0]))[0][0])
            await proxy.restore()
            await daemon.until("/livez", lambda answer: answer[1]["sinks"]["there"] == "current")
            assert told_here == await held(line.valkey)
