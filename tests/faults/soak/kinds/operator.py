"""What a person does with creditsd's own commands in the middle of it all."""

from __future__ import annotations

import asyncio
import random
from functools import partial

from tests.faults.soak.fault import Fault
from tests.faults.soak.world import World

SINKS = ("cache", "events", "hook", "steps")


async def _command(world: World, _: random.Random, *, args: tuple[str, ...]) -> None:
    await world.creditsd(*args)


async def _paused(world: World, dice: random.Random) -> None:
    name = dice.choice(SINKS)
    await world.creditsd("sinks", "pause", name)
    await asyncio.sleep(dice.uniform(0.0, 1.5))
    await world.creditsd("sinks", "resume", name)


async def _replayed(world: World, dice: random.Random) -> None:
    await world.creditsd("sinks", "replay", dice.choice(SINKS))


COMMANDS = (("install",), ("backfill",), ("backfill", "--republish"), ("verify", "--repair"))

FAULTS = (
    *(Fault(f"creditsd {' '.join(args)}", partial(_command, args=args), 0.5) for args in COMMANDS),
    Fault("creditsd sinks pause, resume", _paused, 0.5),
    Fault("creditsd sinks replay", _replayed, 0.5),
)
