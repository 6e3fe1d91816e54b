"""The publisher against a plain model, whatever happens in whatever order: nobody is ever forgotten.

The SQL is the real one on a real server, and connections are really cut; but it runs on one connection in the place of
the pool, so that some thousand steps take seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from structlog.testing import capture_logs

from creditsd.delivery.publisher import Publisher
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.sinks import Rejection, SinkBusy
from tests.conftest import Database
from tests.integration.line import user
from tests.integration.stepped import HOUR, TIMINGS, CuttablePool, JumpingLoop, SteppedSink, ended, quiet
from tests.integration.stepped_database import SteppedDatabase, Stored
from tests.integration.told import Told

USERS = [user(number) for number in range(1, 5)]
MAX_BATCH = 3
DISTURBED_STEPS = 2

ANSWERS = ["accept", "refuse", "refuse", "busy", "fail", "explode"]
FAILURES = {"fail": SinkUnavailable("sink memory: no answer"), "explode": RuntimeError("nobody expected this")}
DISTURBANCES = ["sink", "pause", "leadership"]
EVENTS = [
    *["an hour passes"] * 2,
    "what was refused is due",
    "everything is to be told again",
    "the cursor is set back",
    "killed",
    "ended",
    "another daemon leads",
    *DISTURBANCES,
]

some_users = st.lists(st.sampled_from(USERS), min_size=1, max_size=4, unique=True)
Fault = int | str | None
faults = st.sampled_from([None, None, None, 0, 1, 2, 3, 4, "lost", "away"])
"""What befalls PostgreSQL: a connection cut before so many statements, an answer lost on its way, away for a while."""


class PublisherMachine(RuleBasedStateMachine):
    """One sink, told by one publisher after another; `told` is what its receiver has taken."""

    dsn: str
    begun_early = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=JumpingLoop)
        self.loop: Any = self.runner.get_loop()
        self.ends = contextlib.ExitStack()
        self.logs = self.ends.enter_context(capture_logs())
        self.database = SteppedDatabase(self.dsn)
        self.ends.callback(self.database.close)
        self.pool: Any = CuttablePool(self.dsn)
        self.version = 0
        self.disturbances: dict[str, int] = {}
        self.ill = self.ever_failed = self.something_arrived = False
        self.seen_begun = self.still_steps = 0

    @property
    def leading(self) -> bool:
        return "leadership" not in self.disturbances

    @property
    def paused(self) -> bool:
        return "pause" in self.disturbances

    @initialize(every=st.booleans())
    def begin(self, every: bool) -> None:
        self.every, self.told = every, Told(every=every)
        self.start()

    def start(self) -> None:
        """Make the publisher of a daemon that has just become the leader."""
        self.disturbances.pop("leadership", None)
        self.sink = SteppedSink(MAX_BATCH)
        self.sink.reachable = "sink" not in self.disturbances
        self.publisher = Publisher("memory", self.sink, self.pool, every=self.every, timings=TIMINGS)
        self.seen_begun = 0
        self.set_back = False
        self.take_the_lead()
        self.task = self.loop.create_task(self.publisher.run())
        self.settle()

    def take_the_lead(self) -> None:
        self.ill = False
        self.call(self.publisher.lead, self.version)

    def call(self, told: Callable[..., None], *words: object) -> None:
        """Tell the publisher something, as others do on its own event loop."""

        async def tell() -> None:
            told(*words)

        self.runner.run(tell())

    def settle(self) -> None:
        """Let the publisher do what it can, and judge what it has begun."""
        before = self.sink.failed_to_open
        self.runner.run(quiet(self.pool))
        self.ill |= self.sink.failed_to_open > before
        for totals in self.sink.begun[self.seen_begun :]:
            assert 1 <= len({total.user_id for total in totals}) == len(totals) <= MAX_BATCH
            assert [total.version for total in totals] == sorted(total.version for total in totals)
            assert not self.paused, "delivers while it is paused"
            assert not self.ill or len(totals) == 1, "asks a sink that is ill with more than one request"
        self.seen_begun = len(self.sink.begun)

    # What the line does.

    @rule(users=some_users, fault=faults, at_once=st.sampled_from([None, None, "leadership", "ring", "more"]))
    def store(self, users: list[str], fault: Fault, at_once: str | None = None) -> None:
        """Store totals and hand them over; `at_once`, before the publisher has a turn, something else is told too."""
        handed_over = [self.stored(users)]
        if at_once == "more":
            handed_over.append(self.stored(USERS[:1]))
        self.strike(fault)
        if self.leading:
            self.call(self.hand_over, handed_over, at_once)
        self.settle()
        self.touched = (self.sink.touched, self.pool.borrowed)

    def stored(self, users: list[str]) -> list[Total]:
        totals = []
        for each in users:
            self.version += 1
            self.told.store(each, self.version)
            self.database.store(each, self.version)
            totals.append(Total.nothing(each)._replace(version=self.version))
        return totals

    def hand_over(self, handed_over: list[list[Total]], at_once: str | None) -> None:
        before = self.sink.ahead
        for totals in handed_over:
            self.publisher.offer(totals)
        if at_once == "ring":
            self.publisher.tell()
        elif at_once == "leadership":
            self.disturbances["leadership"] = DISTURBED_STEPS
            self.publisher.step_down()
        ahead = self.sink.ahead
        if ahead is not None and ahead is not before and at_once is not None:
            self.take(list(ahead))  # whether or not anybody comes to read the answer

    @rule(users=some_users)
    def store_and_have_it_accepted(self, users: list[str]) -> None:
        self.store(users, None)
        if self.sink.at_hand:
            self.accept()

    # What the receiver does.

    @precondition(lambda self: self.sink.at_hand)
    @rule(how=st.sampled_from(ANSWERS), which=st.integers(1, 2**MAX_BATCH - 1), fault=faults, later=st.booleans())
    def answer(self, how: str, which: int, fault: Fault, later: bool) -> None:
        totals = self.sink.at_hand
        through = totals[: which % len(totals)] if how == "busy" else totals
        refused = [each for number, each in enumerate(through) if how != "accept" and which >> number & 1]
        self.ever_failed |= how != "accept"
        self.strike(fault)
        if how in ("fail", "explode"):
            self.ill = True
            self.sink.answer(failure=FAILURES[how])
        else:
            self.take([each for each in through if each not in refused])
            rejections = [Rejection(each, "sink memory: not today") for each in refused]
            busy = SinkBusy("sink memory: busy", 60.0, through=len(through), refused=rejections)
            self.sink.answer(rejections, busy if how == "busy" else None)
            self.ill |= how == "busy" and not through
        self.settle()
        if later:
            self.pass_an_hour()

    def accept(self) -> None:
        self.answer("accept", 1, None, later=False)

    def take(self, totals: list[Total]) -> None:
        self.told.take(totals)
        if totals:
            self.ill, self.something_arrived = False, True

    # Under what nothing can arrive.

    def begin_or_end(self, what: str) -> None:
        """Begin or end a disturbance; it ends by itself after a few steps, or little else would ever be tried."""
        if self.disturbances.pop(what, None) is None:
            self.disturbances[what] = DISTURBED_STEPS
        match what:
            case "pause":
                self.database.pause(paused=self.paused)
                self.ring()
            case "leadership" if self.leading:
                self.take_the_lead()
            case "leadership":
                self.call(self.publisher.step_down)
            case "sink":
                self.sink.reachable = what not in self.disturbances
                self.ever_failed = True
            case "postgresql":
                self.pool.away = what in self.disturbances
        self.settle()
        self.touched = (self.sink.touched, self.pool.borrowed)

    def grow_calm(self) -> None:
        for what, left in list(self.disturbances.items()):
            self.disturbances[what] = left - 1
            if left == 0:
                self.begin_or_end(what)
        stands_still = self.publisher.behind and not self.sink.at_hand and not self.disturbances
        self.still_steps = self.still_steps + 1 if stands_still else 0
        if self.still_steps == DISTURBED_STEPS:
            self.pass_an_hour()

    # What PostgreSQL and the clock do.

    def strike(self, fault: Fault) -> None:
        match fault:
            case int():
                self.pool.cut_before = fault
            case "lost":
                self.pool.lose_answer = True
            case "away" if not self.pool.away:
                self.begin_or_end("postgresql")

    @rule(what=st.sampled_from(EVENTS), fault=faults)
    def something_happens(self, what: str, fault: Fault) -> None:
        self.strike(fault)
        match what:
            case "an hour passes":
                self.pass_an_hour()
            case "what was refused is due":
                self.database.retry()
                self.ring()
            case "everything is to be told again":
                self.tell_everything_again(rings=True)
            case "the cursor is set back":
                self.tell_everything_again(rings=self.every)
            case "killed" | "ended":
                self.restart(killed=what == "killed")
            case "another daemon leads":
                self.let_another_daemon_lead()
            case _:
                self.begin_or_end(what)

    def pass_an_hour(self) -> None:
        self.loop.ahead_seconds += 2 * HOUR
        self.settle()

    # What people do.

    def tell_everything_again(self, *, rings: bool) -> None:
        """Set the cursor back; without a ring the publisher finds that when it saves its own."""
        if self.disturbances or self.sink.at_hand or self.pool.faulty:
            return
        self.database.replay()
        self.told.forget()
        if rings:
            self.ring()
        else:
            self.set_back = True

    def ring(self) -> None:
        if self.leading:
            self.call(self.publisher.tell)
        self.settle()

    # What daemons do.

    def let_another_daemon_lead(self) -> None:
        """Tell everyone while this one does not lead, but for two who are refused."""
        if self.leading or self.paused:
            return
        waiting = self.database.read().waiting
        for each in self.told.users:
            untold = self.told.untold(each)
            if each in USERS[:2] and untold:
                self.database.refuse(each, untold[0], in_order=self.every)
                self.ever_failed = True
            elif each not in waiting:
                self.told.catch_up(each)
        self.database.tell(self.version)

    def restart(self, *, killed: bool) -> None:
        if killed:
            self.task.cancel()
            self.runner.run(ended(self.task))
        else:
            self.end_in_order()
        self.start()

    def end_in_order(self) -> None:
        self.runner.run(self.publisher.end())
        self.settle()
        while self.sink.at_hand:
            self.accept()
        assert self.task.done(), "does not end"
        self.task.result()
        self.runner.run(self.publisher.close())

    # What must always be.

    @invariant()
    def all_is_as_it_must_be(self) -> None:
        if self.task.done():
            self.task.result()
            raise AssertionError("it has ended")
        stored = self.database.read()
        knows = self.leading and not self.set_back
        cursor = max(stored.cursor, self.publisher.cursor if knows else 0)  # what is not stored may be in memory
        self.told.check_that_nobody_is_forgotten(cursor, stored.waiting)
        self.told.check_that_none_comes_after_a_newer_one()
        self.check_that_the_state_speaks_of_the_sink(stored)
        if not self.leading:
            assert self.touched == (self.sink.touched, self.pool.borrowed), "touches what another daemon leads"
            assert not self.sink.at_hand
        recovered = any(each["event"] == "publisher.recovered" for each in self.logs)
        assert self.something_arrived or not recovered, "says that it has recovered, and nothing has arrived"
        self.something_arrived = False
        self.logs.clear()
        self.grow_calm()

    def check_that_the_state_speaks_of_the_sink(self, stored: Stored) -> None:
        for error in (stored.last_error, self.publisher.error):
            assert error in (None, "paused") or error.startswith("sink memory:"), error
        assert not stored.disabled
        if not self.ever_failed and self.sink.reachable:
            assert (stored.last_error, stored.failing) == (None, False)

    def teardown(self) -> None:
        """In the end, with everything well again, everyone has been told the newest."""
        try:
            if self.told.users and not self.task.done():
                self.heal()
                self.told.check_the_end()
                assert self.database.read().waiting == {}
                assert self.publisher.cursor == self.version
        finally:
            type(self).begun_early += self.sink.begun_early
            self.task.cancel()
            self.runner.run(ended(self.task))
            self.runner.run(self.pool.close())
            self.runner.close()
            self.ends.close()

    def heal(self) -> None:
        """Mend everything, and let time pass until nothing more happens."""
        self.pool.cut_before, self.pool.lose_answer, self.ever_failed = None, False, True
        for what in list(self.disturbances):
            self.begin_or_end(what)
        self.ring()
        for _ in range(100):
            if self.sink.at_hand:
                self.accept()
            elif not self.publisher.behind and not self.database.read().waiting:
                return
            else:
                self.pass_an_hour()
                self.database.retry()
                self.ring()
        waiting = self.database.read().waiting
        raise AssertionError(f"never comes to an end: {self.publisher.cursor} of {self.version}, {waiting} wait")


def test_whatever_happens_nobody_is_forgotten(fractions: Database) -> None:
    class Machine(PublisherMachine):
        dsn = fractions.dsn

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            report_multiple_bugs=False,
            stateful_step_count=40,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Machine.begun_early > 0
