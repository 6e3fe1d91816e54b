"""When each station of the daemon does what: one argument, so that a test can pass its own."""

from __future__ import annotations

from dataclasses import dataclass, field

from creditsd.capture import change_purger, doorbell
from creditsd.daemon import election, lock_watch, pipeline
from creditsd.delivery import timings as delivery
from creditsd.http import database_source, operator, server
from creditsd.metrics import collectors
from creditsd.schema import watch
from creditsd.totals import timings as totals


@dataclass(frozen=True, slots=True)
class Timings:
    """The stations' own, in the order of the line.

    `stuck_seconds` without any step, a restart is worth a try: a page of users may take minutes where the table has no
    index, and a lost server is noticed sooner. `close_seconds` are for saving the cursors, where everything else has
    taken all the time there was. `leave_seconds` are for the delivery that is under way to a sink which the settings
    have no more, or otherwise: then it is cut off, and repeated where the sink stays.
    """

    doorbell: doorbell.Timings = field(default_factory=doorbell.Timings)
    purger: change_purger.Timings = field(default_factory=change_purger.Timings)
    totals: totals.Timings = field(default_factory=totals.Timings)
    election: election.Timings = field(default_factory=election.Timings)
    pipeline: pipeline.Timings = field(default_factory=pipeline.Timings)
    delivery: delivery.Timings = field(default_factory=delivery.Timings)
    locks: lock_watch.Timings = field(default_factory=lock_watch.Timings)
    source: database_source.Timings = field(default_factory=database_source.Timings)
    http: server.Timings = field(default_factory=server.Timings)
    operator: operator.Timings = field(default_factory=operator.Timings)
    metrics: collectors.Timings = field(default_factory=collectors.Timings)
    watch: watch.Timings = field(default_factory=watch.Timings)
    stuck_seconds: float = 600.0
    close_seconds: float = 1.0
    leave_seconds: float = 5.0
