"""What an administrator does to our sessions."""

from __future__ import annotations

import asyncio
import random
from contextlib import nullcontext
from functools import partial

from tests.faults.soak.fault import Fault
from tests.faults.soak.world import World

PURPOSES = ("leader", "doorbell", "sleep", "publisher")


async def _end(world: World, _: random.Random, *, function: str, purpose: str) -> None:
    """Behind a pooler a session with our name may be the application's by now; then its write may fail."""
    with world.application.excusing("sessions that are lent are ended", 2.0) if world.shape.pooled else nullcontext():
        await world.run(
            f"SELECT {function}(pid) FROM pg_stat_activity "
            f"WHERE datname = current_database() AND application_name LIKE 'creditsd {purpose}'"
        )


async def _again_and_again(world: World, dice: random.Random, *, function: str) -> None:
    for _ in range(dice.randint(3, 12)):
        await _end(world, dice, function=function, purpose="%")
        await asyncio.sleep(dice.uniform(0.0, 0.2))


TERMINATE, CANCEL = "pg_terminate_backend", "pg_cancel_backend"

FAULTS = (
    *(Fault(f"session {each!r} terminated", partial(_end, function=TERMINATE, purpose=each)) for each in PURPOSES),
    *(Fault(f"statement of {each!r} cancelled", partial(_end, function=CANCEL, purpose=each)) for each in PURPOSES[:2]),
    Fault("all sessions terminated, several times", partial(_again_and_again, function=TERMINATE)),
    Fault("all statements cancelled, several times", partial(_again_and_again, function=CANCEL)),
)
