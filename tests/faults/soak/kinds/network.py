"""What a network does between a daemon and whom it talks to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from tests.faults.soak.fault import Fault
from tests.faults.soak.world import World
from tests.proxy import Proxy

Trouble = Callable[[Proxy, random.Random], Coroutine[Any, Any, None]]


async def _cut(gate: Proxy, dice: random.Random) -> None:
    await gate.cut()
    try:
        await asyncio.sleep(dice.uniform(0.2, 2.0))
    finally:
        await gate.restore()


async def _frozen(gate: Proxy, dice: random.Random) -> None:
    await gate.freeze()
    try:
        await asyncio.sleep(dice.uniform(0.2, 3.0))
    finally:
        await gate.restore()


async def _dropped(gate: Proxy, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 5)):
        await gate.drop()
        await asyncio.sleep(dice.uniform(0.0, 0.3))


async def _slow(gate: Proxy, dice: random.Random) -> None:
    gate.delay_seconds = dice.uniform(0.02, 0.3)
    try:
        await asyncio.sleep(dice.uniform(0.5, 2.0))
    finally:
        gate.delay_seconds = 0.0


async def _reset(gate: Proxy, dice: random.Random) -> None:
    gate.reset_after_bytes = dice.choice((1, 100, 1000, 10_000))
    try:
        await asyncio.sleep(dice.uniform(0.3, 1.5))
    finally:
        gate.reset_after_bytes = None
        await gate.drop()


async def _truncated(gate: Proxy, dice: random.Random) -> None:
    gate.truncate_after_bytes = dice.choice((1, 10, 100, 1000))
    try:
        await asyncio.sleep(dice.uniform(0.3, 1.5))
    finally:
        gate.truncate_after_bytes = None
        await gate.drop()


async def _trouble(world: World, dice: random.Random, *, to: str, trouble: Trouble) -> None:
    """Let it happen on the way to one of them; of the database, on the leader's way or everyone's."""
    if to == "database":
        members = [await world.crew.leader()] if dice.random() < 0.7 else world.crew.members
        gates = [member.gate for member in members]
    elif to == "webhooks":
        gates = [world.gates["hook"], world.gates["steps"]]
    else:
        gates = [world.gates[to]]
    state = dice.getstate()
    async with asyncio.TaskGroup() as group:
        for gate in gates:
            same = random.Random()
            same.setstate(state)
            group.create_task(trouble(gate, same))


TROUBLES: dict[str, Trouble] = {
    "cut, then refused": _cut,
    "frozen": _frozen,
    "dropped again and again": _dropped,
    "slow": _slow,
    "reset in the middle": _reset,
    "truncated": _truncated,
}
PLACES = {"database": "PostgreSQL", "cache": "Redis", "events": "NATS", "webhooks": "webhooks"}

FAULTS = tuple(
    Fault(f"way to {name} {what}", partial(_trouble, to=to, trouble=trouble), 0.7)
    for to, name in PLACES.items()
    for what, trouble in TROUBLES.items()
)
