"""Lets one fault after the other happen to a world, under load, with everyone told the truth in between."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.faults.soak import world as worlds
from tests.faults.soak.checker import Checker
from tests.faults.soak.fault import NOTHING
from tests.faults.soak.portrait import portrait
from tests.faults.soak.schedule import Turn, one_by_one, turns
from tests.faults.soak.world import Shape, World

LONG_SECONDS = 5.0
READY_SECONDS = 60.0
LONGEST_FAULT_SECONDS = 180.0
LONGEST_QUIET_SECONDS = 3.0
"""So long it may take where nothing is out of order, on a machine that does much else: the fallbacks of a bell that is
not heard, or of a timer, take longer."""
# A request that is held on its way may be overtaken by the one that repeats it, and by newer ones.
HOLDS_REQUESTS = ("way to webhooks frozen", "way to webhooks slow", "stopped", "hang")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one turn of so many faults came to: seconds from their end until everyone was told the truth, anomalies.

    `seed` is the world's, `number` the turn's in it. `late_seconds`: for each plan that ended meanwhile, how long after
    its end its user was told.
    """

    name: str
    faults: int
    world: str
    seed: str
    number: int
    seconds: float
    recovery_seconds: float
    anomalies: tuple[str, ...]
    late_seconds: tuple[float, ...] = ()


class Failure(NamedTuple):
    """Which world failed, and after which of its turns."""

    world: int
    numbers: Sequence[int]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen: how long, in which worlds and how many at once, which kinds, drawn how.

    `alone` has every kind that is possible in a world happen there, each by itself, and the world end with the last.
    `world` has the one of that number alone, `numbers` of the turns that would happen there these alone.
    """

    seed: int
    seconds: float
    world_seconds: float = 300.0
    worlds: int = 1_000_000
    at_once: int = 1
    only: Collection[str] = ()
    alone: bool = False
    faults_a_world: int = 1_000_000
    shapes: Collection[Shape] = ()
    world: int | None = None
    numbers: Collection[int] = ()
    ends_at_anomaly: bool = False

    def drawn(self) -> Iterator[tuple[str, Shape]]:
        """Return the worlds one after the other: the seed and the shape of each."""
        shapes = iter(self.shapes) if self.shapes else itertools.cycle(worlds.draw(self.seed))
        for number, shape in enumerate(itertools.islice(shapes, self.worlds)):
            if self.world is None or number == self.world:
                yield f"{self.seed}:{number}", shape
            if number == self.world:
                return

    def turns(self, seed: str, shape: Shape) -> Iterator[Turn]:
        """Return what happens in one of them."""
        drawn = one_by_one(seed, shape, self.only) if self.alone else turns(seed, shape, self.only)
        if not self.numbers:
            return drawn
        upto = itertools.takewhile(lambda turn: turn.number <= max(self.numbers), drawn)
        return (turn for turn in upto if turn.number in self.numbers)


@dataclass(slots=True)
class Campaign:
    """Worlds one after the other, and some at once, of all shapes, for so long in all."""

    plan: Plan
    directory: Path
    said: Callable[[str], None] = print
    outcomes: list[Outcome] = field(default_factory=list)
    spent_seconds: float = 0.0
    written: int = 0
    excused: int = 0
    serialization: int = 0
    told: int = 0
    _ends: float = 0.0

    async def run(self) -> None:
        """Open one world after the other until the time is over."""
        begun = time.monotonic()
        self._ends = begun + self.plan.seconds
        drawn = self.plan.drawn()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.plan.at_once):
                    group.create_task(self._go_through(drawn))
        finally:
            self.spent_seconds = time.monotonic() - begun

    async def _go_through(self, drawn: Iterator[tuple[str, Shape]]) -> None:
        for seed, shape in drawn:
            if time.monotonic() > self._ends or self._has_failed:
                return
            await self._in_a_world(seed, shape, min(self._ends, time.monotonic() + self.plan.world_seconds))

    async def _in_a_world(self, seed: str, shape: Shape, until: float) -> None:
        directory = self.directory / seed.replace(":", "-")
        directory.mkdir(parents=True, exist_ok=True)
        self.said(f"world {seed}: {shape}")
        async with worlds.opened(shape, seed, directory) as world:
            try:
                await self._break(world, seed, until)
            finally:
                self._count(world)

    @property
    def first_failure(self) -> Failure | None:
        """What failed first, and after which turns; None where nothing did."""
        for position, outcome in enumerate(self.outcomes):
            if outcome.anomalies:
                before = [each.number for each in self.outcomes[: position + 1] if each.seed == outcome.seed]
                return Failure(int(outcome.seed.rpartition(":")[2]), [number for number in before if number])
        return None

    @property
    def _has_failed(self) -> bool:
        return self.plan.ends_at_anomaly and any(outcome.anomalies for outcome in self.outcomes)

    async def _break(self, world: World, seed: str, until: float) -> None:
        """Let faults happen until the time is over, or the world is lost."""
        checker = Checker(world)
        await checker.begin()
        failed = await self._settle(world, checker, "beginning", seed, 0, held_up=False)
        count = 0
        for turn in self.plan.turns(seed, world.shape):
            if failed or self._has_failed or count >= self.plan.faults_a_world or time.monotonic() > until:
                break
            count += len(turn.faults)
            failed = await self._take(world, checker, turn)
        if not failed:
            await world.creditsd("verify", "--sink", "cache", "--sink", "events")
            await self._settle(world, checker, "end", seed, 0, held_up=False)

    def _count(self, world: World) -> None:
        self.written += world.application.tally.written.total()
        self.excused += world.application.tally.excused
        self.serialization += world.application.tally.serialization
        self.told += sum(consumer.messages for consumer in (*world.consumers, world.cache.heard))

    async def _take(self, world: World, checker: Checker, turn: Turn) -> bool:
        """Let it happen while the application writes; tell whether the world is lost for further ones."""
        dice = random.Random(turn.seed)
        world.application.go()
        begun = time.monotonic()
        await asyncio.sleep(dice.uniform(0.1, 0.6))
        try:
            async with asyncio.timeout(LONGEST_FAULT_SECONDS), asyncio.TaskGroup() as group:
                for number, fault in enumerate(turn.faults):
                    group.create_task(fault.happen(world, random.Random(f"{turn.seed}:{number}")))
        except (TimeoutError, ExceptionGroup) as error:
            causes = getattr(error, "exceptions", (error,))
            world.application.tally.failures.append(f"the fault itself failed: {[repr(each) for each in causes]}")
        held_up = any(word in turn.name for word in HOLDS_REQUESTS)
        return await self._settle(world, checker, turn.name, turn.seed, time.monotonic() - begun, held_up=held_up)

    async def _settle(
        self, world: World, checker: Checker, name: str, seed: str, seconds: float, *, held_up: bool
    ) -> bool:
        """Have the application pause until everyone is told the truth, and judge; tell whether that never came."""
        ended, number = time.monotonic(), int(seed.rpartition(":")[2]) if seconds else 0
        of_world = seed.rpartition(":")[0] if seconds else seed
        await world.application.pause()
        _, wrong = await checker.recovery()
        recovery = time.monotonic() - ended
        late = checker.lateness() if not wrong else []
        anomalies = [f"never told the truth: {text}" for text in wrong[:10]]
        anomalies += (await checker.anomalies(name, held_up=held_up)) if not wrong else _all_failures(world)
        anomalies += _slow(recovery, late) if name == NOTHING and not wrong else []
        anomalies += (await portrait(world)) if wrong else []
        if not wrong and not await world.crew.until_ready(READY_SECONDS):
            anomalies.append(f"not ready though everyone is told the truth: {await _unready(world)}")
        if checker.is_ready_while_wrong:
            anomalies.append("said it was ready though somebody was told wrongly for longer than a minute")
        faults = name.count(" + ") + 1 if seconds and name != NOTHING else 0
        self.outcomes.append(
            Outcome(name, faults, str(world.shape), of_world, number, seconds, recovery, tuple(anomalies), tuple(late))
        )
        last = f" (last: {', '.join(sorted(checker.last))})" if recovery > LONG_SECONDS else ""
        mark = "" if not anomalies else "  ANOMALY"
        self.said(f"{seed:>12}  {name}: {seconds:.1f} s, right again after {recovery:.2f} s{last}{mark}")
        for text in anomalies[:60]:
            self.said(f"              ! {text}")
        return bool(wrong)


def _slow(recovery: float, late: Sequence[float]) -> list[str]:
    """Name what took long though nothing was out of order."""
    found = [f"took {recovery:.1f} s with nothing out of order"] if recovery > LONGEST_QUIET_SECONDS else []
    return found + [f"told of an end {each:.1f} s after it" for each in late if each > LONGEST_QUIET_SECONDS]


def _all_failures(world: World) -> list[str]:
    """What is known of a world that never came right."""
    return [*world.application.tally.failures, *(text for member in world.crew.members for text in member.complaints())]


async def _unready(world: World) -> list[object]:
    return [(await member.running.ask("/readyz")) for member in world.crew.members if member.daemon is not None]
