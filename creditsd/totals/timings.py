"""When what happens to totals beside the line does what."""

from __future__ import annotations

from dataclasses import dataclass, field

from creditsd.totals import history_partitions, republish, sweep


@dataclass(frozen=True, slots=True)
class Timings:
    """Those of its parts."""

    partitions: history_partitions.Timings = field(default_factory=history_partitions.Timings)
    republish: republish.Timings = field(default_factory=republish.Timings)
    sweep: sweep.Timings = field(default_factory=sweep.Timings)
