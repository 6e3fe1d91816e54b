"""What happens to Redis and NATS themselves."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from functools import partial

from tests.faults.soak.fault import Fault
from tests.faults.soak.world import World
from tests.faults.truth import client

ALL_OF_REDIS = "creditsd verify --sink cache --repair"


async def _redis(world: World, *command: str | int) -> None:
    async with client(world.cache.server) as link:
        await link.execute_command(*command)  # type: ignore[no-untyped-call]


async def _redis_killed(world: World, dice: random.Random) -> None:
    await asyncio.to_thread(world.cache.server.kill)
    await asyncio.sleep(dice.uniform(0.0, 1.0))
    await asyncio.to_thread(world.cache.server.start)


async def _redis_flushed(world: World, _: random.Random) -> None:
    """Where a cache has lost what it held, somebody has to say so."""
    await _redis(world, "FLUSHALL")
    await world.creditsd("verify", "--sink", "cache", "--repair")


async def _redis_full(world: World, dice: random.Random) -> None:
    await _redis(world, "CONFIG", "SET", "maxmemory", "1")
    try:
        await asyncio.sleep(dice.uniform(0.3, 2.0))
    finally:
        await _redis(world, "CONFIG", "SET", "maxmemory", "0")


async def _redis_read_only(world: World, dice: random.Random) -> None:
    """Nobody answers at port 1: it keeps what it has, and refuses to be written."""
    await _redis(world, "REPLICAOF", "127.0.0.1", "1")
    try:
        await asyncio.sleep(dice.uniform(0.3, 1.5))
    finally:
        await _redis(world, "REPLICAOF", "NO", "ONE")


async def _redis_paused(world: World, dice: random.Random) -> None:
    milliseconds = dice.randint(200, 2000)
    await _redis(world, "CLIENT", "PAUSE", milliseconds, "WRITE")
    await asyncio.sleep(milliseconds / 1000)


async def _redis_clients_killed(world: World, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 5)):
        await _redis(world, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(dice.uniform(0.0, 0.2))


async def _redis_scripts_forgotten(world: World, _: random.Random) -> None:
    await _redis(world, "SCRIPT", "FLUSH")


async def _stopped(pid: int, dice: random.Random) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(dice.uniform(0.3, 3.0))
    finally:
        os.kill(pid, signal.SIGCONT)


async def _redis_stopped(world: World, dice: random.Random) -> None:
    await _stopped(world.cache.server.pid, dice)


async def _nats_away(world: World, dice: random.Random, *, seconds: float) -> None:
    await asyncio.to_thread(world.stream.server.stop)
    await asyncio.sleep(dice.uniform(0.0, seconds))
    await asyncio.to_thread(world.stream.server.start)


async def _nats_stopped(world: World, dice: random.Random) -> None:
    await _stopped(world.stream.server.pid, dice)


FAULTS = (
    Fault("Redis killed and started", _redis_killed),
    Fault("Redis flushed", _redis_flushed, mend=ALL_OF_REDIS),
    Fault("Redis without memory (maxmemory)", _redis_full),
    Fault("Redis read-only", _redis_read_only),
    Fault("Redis paused (CLIENT PAUSE)", _redis_paused),
    Fault("Redis drops its clients", _redis_clients_killed),
    Fault("Redis forgets its scripts", _redis_scripts_forgotten),
    Fault("Redis stopped and continued", _redis_stopped),
    Fault("NATS killed and started", partial(_nats_away, seconds=2.0)),
    Fault("NATS stopped and continued", _nats_stopped),
)
