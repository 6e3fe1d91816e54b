"""What happens to PostgreSQL itself: then, and then only, may a write of the application's fail."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial

from tests.faults.soak.fault import Fault
from tests.faults.soak.world import World
from tests.servers import Postgres

AFTER_SECONDS = 5.0
"""For how long after its return the application may still meet connections that are broken."""


async def _away(world: World, dice: random.Random, *, stop: Callable[[Postgres], None]) -> None:
    with world.application.excusing("PostgreSQL is away", AFTER_SECONDS):
        await asyncio.to_thread(stop, world.server)
        await asyncio.sleep(dice.uniform(0.0, 1.0))
        await asyncio.to_thread(world.server.start)


async def _reloaded(world: World, _: random.Random) -> None:
    await world.run("SELECT pg_reload_conf()")
    await world.run("CHECKPOINT")


FAULTS = (
    Fault(
        "PostgreSQL shut down at once (immediate) and started",
        partial(_away, stop=partial(Postgres.stop, mode="immediate")),
    ),
    Fault("PostgreSQL killed with -9 and started", partial(_away, stop=Postgres.kill9)),
    Fault("PostgreSQL restarted (fast)", partial(_away, stop=Postgres.stop)),
    Fault("PostgreSQL reloaded, checkpoint", _reloaded),
)
