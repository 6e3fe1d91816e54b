"""What the receivers of webhooks answer."""

from __future__ import annotations

import asyncio
import random
from functools import partial

from tests.faults.soak.fault import Fault
from tests.faults.soak.receiver import Mood
from tests.faults.soak.world import World


async def _answers(world: World, dice: random.Random, *, mood: Mood) -> None:
    async with asyncio.TaskGroup() as group:
        for receiver in world.receivers if dice.random() < 0.5 else [dice.choice(world.receivers)]:
            group.create_task(receiver.be(mood, dice.uniform(0.3, 3.0)))


async def _gone(world: World, dice: random.Random) -> None:
    """Answer 410 until the sink is disabled, and enable it again as the documentation says."""
    receiver = dice.choice(world.receivers)
    await receiver.be(410, dice.uniform(0.5, 1.5))
    await world.creditsd("sinks", "enable", receiver.heard.name)


async def _refuses_some(world: World, dice: random.Random) -> None:
    receiver = dice.choice(world.receivers)
    receiver.refused = frozenset(dice.sample(world.ledger.users, dice.choice((1, 3, 15))))
    try:
        await asyncio.sleep(dice.uniform(0.5, 3.0))
    finally:
        receiver.refused = frozenset()


async def _away(world: World, dice: random.Random) -> None:
    receiver = dice.choice(world.receivers)
    await receiver.go()
    await asyncio.sleep(dice.uniform(0.3, 2.0))
    await receiver.come()


FAULTS = (
    *(Fault(f"receivers answer {status}", partial(_answers, mood=status), 0.7) for status in (500, 503, 429, 403)),
    Fault("receiver answers 410", _gone, mend="creditsd sinks enable NAME"),
    Fault("receivers hang", partial(_answers, mood="hangs")),
    Fault("receivers answer nonsense", partial(_answers, mood="says nonsense")),
    Fault("receivers break off in the answer", partial(_answers, mood="breaks off")),
    Fault("receiver refuses some users (400)", _refuses_some),
    Fault("receiver away", _away),
)
