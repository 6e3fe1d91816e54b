"""The publishers of all sinks, replaced one by one as the settings change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog

from creditsd.config.settings import SinkSettings
from creditsd.daemon.tasks import begun, ended
from creditsd.delivery.publisher import Publisher
from creditsd.domain.delivery_attempt import DeliveryAttempt
from creditsd.sinks import Sink, made_of, make

log = structlog.get_logger()

Publishing = Callable[[str, Sink, bool], Publisher]
"""Makes the publisher of a sink by its name; the last argument, whether it is told every step."""


@dataclass(slots=True, eq=False)
class _Place:
    """The publisher of one sink, what it was made of, and its task; `made_of` nothing is beside the configured ones."""

    publisher: Publisher
    made_of: tuple[object, ...] | None = None
    task: asyncio.Task[None] | None = None
    leaving: bool = False

    @property
    def name(self) -> str:
        return self.publisher.name


@dataclass(frozen=True, slots=True)
class Plan:
    """What other settings make of the sinks, by name; those to come are made, and neither opened nor running."""

    added: Sequence[str]
    removed: Sequence[str]
    changed: Sequence[str]
    unchanged: Sequence[str]
    coming: Mapping[str, tuple[SinkSettings, Sink, tuple[object, ...]]]

    def facts(self) -> Mapping[str, object]:
        """Return it for the log."""
        return {name: list(getattr(self, name)) for name in ("added", "removed", "changed", "unchanged")}


class Publishers:
    """Iterates over the publishers of now. A sink whose settings stay is not touched by a change of the others."""

    def __init__(
        self,
        configured: Sequence[SinkSettings],
        beside: Sequence[tuple[str, Sink]],
        publishing: Publishing,
        *,
        highest: Callable[[], int],
        leave_seconds: float,
        close_seconds: float,
    ) -> None:
        """Make them; `highest` is the highest version given out. Raises ConfigError."""
        self._publishing = publishing
        self._highest = highest
        self._leave_seconds = leave_seconds
        self._close_seconds = close_seconds
        self._tasks: asyncio.TaskGroup | None = None
        self._left: list[tuple[str, Sequence[DeliveryAttempt]]] = []  # of those that have left since
        self._newest: int | None = None  # the newest version when we began to lead; None where we do not
        self._places = [self._place(each, make(each), made_of(each)) for each in configured]
        self._places += [_Place(publishing(name, sink, False)) for name, sink in beside]

    def __iter__(self) -> Iterator[Publisher]:
        return iter([each.publisher for each in self._places])

    def attempts(self) -> Sequence[tuple[str, Sequence[DeliveryAttempt]]]:
        """Return what each sink was sent since this was asked last."""
        left, self._left = self._left, []
        return [*left, *((each.name, each.attempts()) for each in self)]

    @property
    def names(self) -> list[str]:
        """What the sinks are called."""
        return [each.name for each in self._places]

    def lead(self, newest: int) -> None:
        """Have each begin at its cursor."""
        self._newest = newest
        for place in self._places:
            if not place.leaving:
                place.publisher.lead(newest)

    def step_down(self) -> None:
        """Have each hand everything back."""
        self._newest = None
        for publisher in self:
            publisher.step_down()

    def tell(self) -> None:
        """Have each look at its row, which somebody has changed."""
        for publisher in self:
            publisher.tell()

    def poll(self) -> None:
        """Have each look at what no bell tells of, if it is time."""
        for publisher in self:
            publisher.poll()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Run each as a task of a group, and those that come later, too."""
        self._tasks = tasks
        for place in self._places:
            self._run(place)

    @property
    def running(self) -> Sequence[asyncio.Task[None]]:
        """The tasks of those that were started."""
        return [each.task for each in self._places if each.task is not None]

    def plan(self, configured: Sequence[SinkSettings]) -> Plan:
        """Compare with other settings, and make what they ask for. Touches nothing that runs. Raises ConfigError."""
        before = {each.name: each.made_of for each in self._places if each.made_of is not None}
        after = {each.name: (each, made_of(each)) for each in configured}
        unchanged = [name for name, (_, made) in after.items() if before.get(name) == made]
        return Plan(
            added=[name for name in after if name not in before],
            removed=[name for name in before if name not in after],
            changed=[name for name in after if name in before and name not in unchanged],
            unchanged=unchanged,
            coming={name: (each, make(each), made) for name, (each, made) in after.items() if name not in unchanged},
        )

    async def follow(self, plan: Plan) -> None:
        """Have those leave that are not configured any more, or otherwise, and others take their places.

        No two publishers of one sink run at once, and none waits for another sink's to leave.
        """
        places = {each.name: each for each in self._places if each.made_of is not None}
        names = [*plan.coming, *plan.removed]
        await asyncio.gather(*(self._replace(places.get(name), plan.coming.get(name)) for name in names))

    async def drain(self, deadline: float) -> None:
        """Let what is stored arrive, until a moment of the monotonic clock, and say whom the rest waits for."""
        for publisher in self:
            await publisher.end()
        await ended(self.running, deadline)
        for publisher in self:
            if publisher.behind:
                log.warning("publisher.left_behind", sink=publisher.name, reason=publisher.error or "out of time")

    async def close(self, deadline: float) -> None:
        """Save each cursor and let go of each sink, until that moment or for `close_seconds`."""
        await self._close(list(self), max(deadline, time.monotonic() + self._close_seconds))

    async def _replace(self, old: _Place | None, new: tuple[SinkSettings, Sink, tuple[object, ...]] | None) -> None:
        """Have one leave, where there is one; then let another begin as it would at a start, where there is one."""
        if old is not None:
            old.leaving = True
            old.publisher.leave()
            await ended([old.task] if old.task else [], time.monotonic() + self._leave_seconds)
            await self._close([old.publisher], time.monotonic() + self._close_seconds)
            self._places.remove(old)
            self._left.append((old.name, old.publisher.attempts()))
        if new is not None:
            place = self._place(*new)
            self._places.append(place)
            if self._newest is not None:
                place.publisher.lead(max(self._newest, self._highest()))
            self._run(place)

    async def _close(self, publishers: Sequence[Publisher], deadline: float) -> None:
        tasks = self._tasks
        if tasks is not None:
            await ended([tasks.create_task(each.close()) for each in publishers], deadline)

    def _place(self, settings: SinkSettings, sink: Sink, made: tuple[object, ...]) -> _Place:
        return _Place(self._publishing(settings.name, sink, settings.mode == "every"), made)

    def _run(self, place: _Place) -> None:
        if self._tasks is not None:
            name = f"publisher {place.name}"
            place.task = begun(self._tasks, place.publisher.run(), name=name)
