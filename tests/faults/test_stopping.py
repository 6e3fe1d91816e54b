"""Told to end, the daemon ends: with 0, in a bounded time, whatever is broken at that moment."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.acceptance.command import Running
from tests.conftest import Database, eventually
from tests.faults.conftest import Line, line_of
from tests.faults.load import user
from tests.faults.truth import client, held
from tests.proxy import Proxy
from tests.servers import Postgres, Valkey

SHUTDOWN_SECONDS = 1
MARGIN_SECONDS = 25  # for a machine that does much else


async def ends(daemon: Running, number: signal.Signals = signal.SIGTERM, seconds: float = SHUTDOWN_SECONDS) -> None:
    """Tell it to end, and see that it does so in time and with 0."""
    begun = time.monotonic()
    assert await daemon.end(number) == 0, daemon.log()
    assert time.monotonic() - begun < seconds + MARGIN_SECONDS
    assert "Traceback" not in daemon.log()
    assert daemon.logged("daemon.stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_everything_stored_has_arrived_when_it_has_ended_under_load(line: Line, number: signal.Signals) -> None:
    async with line.leading() as daemon:
        async with line.load():
            await ends(daemon, number)
        assert not daemon.logged("publisher.left_behind")
    stored = {str(user): version for user, version in await line.run("SELECT user_id, version FROM creditsd.balances")}
    assert {user: document["version"] for user, document in (await held(line.valkey)).items()} == stored


async def test_it_ends_while_it_stands_by(line: Line) -> None:
    async with line.leading(), line.daemon() as standby:
        await standby.until_state("standby")
        await ends(standby)


async def test_it_ends_while_it_backfills(line: Line) -> None:
    many = "SELECT gen_random_uuid(), 1, 'active' FROM generate_series(1, 20000)"  # so that it does not end meanwhile
    await line.run(f"INSERT INTO public.user_credits (user_id, credits, status) {many}")
    async with line.with_env(CREDITSD_MAX_BATCH_USERS="1").daemon() as daemon:
        await daemon.until_logged("balances.resync_begun")
        await ends(daemon)
        assert not daemon.logged("balances.resync_done")


async def test_it_ends_while_a_sink_is_down_and_says_what_is_left(
    line: Line, own_valkey: Callable[..., Valkey]
) -> None:
    other = own_valkey()
    both = line.with_env(
        CREDITSD_SINKS=f"{line.valkey.url} {other.url}", CREDITSD_SHUTDOWN_SECONDS=str(SHUTDOWN_SECONDS)
    )
    async with both.leading() as daemon:
        await line.until_true()
        other.kill()
        async with line.load(clients=1):
            await daemon.until_logged("publisher.backed_off")
            await ends(daemon)
        (left,) = daemon.logged("publisher.left_behind")
        assert left["sink"] == "redis-2"


async def test_it_ends_while_a_delivery_is_refused(line: Line) -> None:
    async with client(line.valkey) as link, line.leading() as daemon:
        await line.until_true()
        await link.delete(f"credits:{user(1)}")
        await link.lpush(f"credits:{user(1)}", "not ours")
        await line.run(f"UPDATE public.user_credits SET credits = 77 WHERE user_id = '{user(1)}'")
        await eventually(lambda: line.run("SELECT FROM creditsd.deliveries"))
        await ends(daemon)
        await link.delete(f"credits:{user(1)}")
    await line.run("UPDATE creditsd.deliveries SET next_at = now()")
    async with line.leading():
        await line.until_true()


async def test_it_ends_while_postgresql_is_down(own_line: tuple[Postgres, Line]) -> None:
    server, line = own_line
    async with line.with_env(CREDITSD_SHUTDOWN_SECONDS=str(SHUTDOWN_SECONDS)).leading() as daemon:
        server.kill()
        await daemon.until_state("disconnected")
        await ends(daemon)
        assert "Traceback" not in daemon.log()


async def test_it_ends_while_postgresql_does_not_answer(prepared: Database, valkey: Valkey, tmp_path: Path) -> None:
    line = line_of(prepared.dsn, valkey, tmp_path)
    said = conninfo_to_dict(line.dsn)
    async with Proxy(str(said["host"]), int(str(said["port"]))) as proxy:
        through = line.with_env(
            CREDITSD_DSN=make_conninfo(line.dsn, port=proxy.port), CREDITSD_SHUTDOWN_SECONDS=str(SHUTDOWN_SECONDS)
        )
        async with through.leading() as daemon:
            async with line.load(clients=1):
                await proxy.freeze()
                await line.run("NOTIFY creditsd")
            # The driver waits up to 10 s more for an answer to its own cancelling.
            await ends(daemon, seconds=SHUTDOWN_SECONDS + 12)
