"""What happens to the daemons' processes."""

from __future__ import annotations

import asyncio
import random
import signal

from tests.faults.soak.crew import Member
from tests.faults.soak.fault import NOTHING, Fault
from tests.faults.soak.world import Shape, World


async def _again(world: World, member: Member, number: signal.Signals) -> None:
    """End it by a signal, and start another one; where nobody stands by, it is over when that one has been loaded."""
    code = await member.end(number)
    if code != (0 if number == signal.SIGTERM else -number):
        world.application.tally.failures.append(f"daemon {member.name} ended with {code} by {number.name}")
    await member.begin()
    if world.shape.daemons == 1:
        await member.until_loaded()


async def _leader_killed(world: World, dice: random.Random) -> None:
    await asyncio.sleep(dice.uniform(0.0, 0.3))
    await _again(world, await world.crew.leader(), signal.SIGKILL)


async def _leader_ended(world: World, dice: random.Random) -> None:
    await asyncio.sleep(dice.uniform(0.0, 0.3))
    await _again(world, await world.crew.leader(), signal.SIGTERM)


async def _standby_killed(world: World, _: random.Random) -> None:
    await _again(world, (await world.crew.others())[0], signal.SIGKILL)


async def _all_killed(world: World, _: random.Random) -> None:
    await asyncio.gather(*(_again(world, member, signal.SIGKILL) for member in world.crew.members))
    await world.crew.members[0].until_loaded()


async def _all_away(world: World, dice: random.Random) -> None:
    for member in world.crew.members:
        await member.end(signal.SIGTERM)
    await asyncio.sleep(dice.uniform(0.5, 2.0))
    for member in world.crew.members:
        await member.begin()
    await world.crew.members[0].until_loaded()


async def _frozen(member: Member, seconds: float) -> None:
    daemon = member.running
    daemon.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        daemon.send(signal.SIGCONT)


async def _leader_frozen(world: World, dice: random.Random) -> None:
    await _frozen(await world.crew.leader(), dice.uniform(0.2, 3.0))


async def _frozen_for_long(world: World, dice: random.Random) -> None:
    await _frozen(await world.crew.leader(), dice.uniform(36.0, 44.0))


async def _killed_while_it_starts(world: World, dice: random.Random) -> None:
    leader = await world.crew.leader()
    for _ in range(2):
        await leader.end(signal.SIGKILL)
        await leader.begin()
        await asyncio.sleep(dice.uniform(0.2, 1.5))
    await leader.until_loaded()


async def _reloaded(world: World, _: random.Random) -> None:
    for member in world.crew.members:
        if await member.state():  # one that still starts has nothing to read anew, and ends of it
            member.running.send(signal.SIGHUP)


async def _nothing(_: World, dice: random.Random) -> None:
    """What the others are to be compared with."""
    await asyncio.sleep(dice.uniform(2.0, 4.0))


def _several(shape: Shape) -> bool:
    return shape.daemons > 1


FAULTS = (
    Fault(NOTHING, _nothing),
    Fault("leader killed with -9", _leader_killed, 2),
    Fault("leader ended", _leader_ended, 2),
    Fault("standby killed with -9", _standby_killed, possible=_several),
    Fault("all daemons killed with -9", _all_killed),
    Fault("all daemons away for a while", _all_away),
    Fault("leader stopped and continued", _leader_frozen, 2),
    Fault("leader stopped for longer than half a minute", _frozen_for_long, 0.1, _several),
    Fault("killed with -9 while it starts", _killed_while_it_starts),
    Fault("settings read anew (SIGHUP)", _reloaded),
)
