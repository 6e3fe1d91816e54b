"""The parts of the bench: what each measures, how often and how long, so that all of them take less than 20 minutes."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from bench.ground import Ground, Pace
from bench.sheet import Sheet


class Measures(Protocol):
    """What a part's module offers: figures that JSON can hold, and the tables they make."""

    def measure(self, ground: Ground, pace: Pace) -> Any: ...
    def sheets(self, found: Any) -> Sequence[Sheet]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """A module of this folder, the pace of the figures on the page, and how long that takes on 2 cores."""

    module: str
    about: str
    pace: Pace
    minutes: float

    @property
    def there(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def load(self) -> Measures:
        return cast("Measures", importlib.import_module(self.module))


PARTS: Mapping[str, Part] = {
    "writers": Part("bench.writers", "what the writers pay", Pace(5, 2), 6.0),
    "latency": Part("bench.latency", "commit to Redis, idle and at rates", Pace(5, 2), 2.0),
    "totals": Part("bench.totals", "totals per second into Valkey", Pace(5, 3), 1.1),
    "publisher": Part("bench.publisher", "the publisher against a bare loop", Pace(5, 0), 0.9),
    "catchup": Part("bench.catchup", "1 000 000 changes of 200 000 users", Pace(3, 0), 2.3),
    "held": Part("bench.held", "the same with a transaction held open", Pace(3, 2), 1.6),
    "idle": Part("bench.idle", "memory, processor, queries of an idle daemon", Pace(1, 60), 1.3),
    "growth": Part("bench.growth", "10 k, 100 k, 1 M users", Pace(2, 2), 2.2),
    "isolation": Part("bench.isolation", "a dead and a hanging sink", Pace(5, 2), 0.7),
    "webhooks": Part("bench.webhooks", "webhooks per second", Pace(3, 0), 1.0),
    "streams": Part("bench.streams", "5 000 open streams on one creditsd serve", Pace(3, 3), 3.0),
    "peers": Part("bench.field", "everyone else who could do it", Pace(1, 2), 2.2),
}

BUDGET_MINUTES = 19.0


def affordable(pace: Pace, part: Part, left: Sequence[Part], spent_minutes: float) -> Pace:
    """Lower the rounds of a part where it and those left would take longer than there is."""
    planned = part.minutes + sum(each.minutes for each in left)
    share = min(1.0, max(0.0, BUDGET_MINUTES - spent_minutes) / planned)
    return Pace(max(1, int(pace.rounds * share)), pace.seconds)
