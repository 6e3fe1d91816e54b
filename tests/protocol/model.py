"""The doorbell and the cursor as a model small enough to be walked through every interleaving.

A step is what PostgreSQL does at once: a change is written, K is tried, a transaction becomes visible, then its locks
go, then its bell is heard; the daemon asks for K, is granted it, drains, hears the bell, saves its cursor, dies.
Whatever may happen next is tried, so what is said of all reachable states holds for every timing.

A rule may be left out, each by its name. A walk that still finds nothing wrong would prove nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, Literal, NamedTuple

Step = Literal["change", "try", "savepoint", "back", "abort", "visible", "unlock", "signal"]

_COMMIT: tuple[Step, ...] = ("visible", "unlock", "signal")

# What a transaction may do. One that is held open for an hour, or is prepared, takes no step for a while: so do all.
PLAIN: tuple[Step, ...] = ("change", "try", *_COMMIT)
TWICE: tuple[Step, ...] = ("change", "try", "change", "try", *_COMMIT)
ABORTED: tuple[Step, ...] = ("change", "try", "abort")
ROLLED_BACK_TO_SAVEPOINT: tuple[Step, ...] = ("savepoint", "change", "try", "back", "change", "try", *_COMMIT)


class Rule(Enum):
    """What the protocol rests on."""

    DRAIN_AFTER_GRANT = auto()  # between the grant of K and sleep the daemon drains once more
    WAIT_FOR_GRANT = auto()  # it sleeps only when K is granted, not when it has asked
    SILENT_HOLDS_K = auto()  # a writer that keeps silent holds K until its transaction ends
    TRY_EACH_TIME = auto()  # each change tries K anew, though an earlier one of the transaction was silent
    FLAG_IS_A_LOCK = auto()  # whether the daemon sleeps is not read from the writer's snapshot
    UNLOCK_LAST = auto()  # a transaction is visible before its locks go
    BELL_BEFORE_DRAIN = auto()  # the bell is taken as heard before the drain, not after
    CURSOR_KEEPS_RUNNING = auto()  # the cursor knows which transactions were running when it was taken
    CURSOR_OF_THE_READ = auto()  # the cursor is the snapshot that was read, not one taken after
    SAVED_AFTER_STORED = auto()  # a cursor is saved only once what it covers is stored


class Cursor(NamedTuple):
    """A snapshot: below `xmax` everything has been read, but for what was `running`."""

    xmax: int
    running: frozenset[int]

    def covers(self, xid: int) -> bool:
        return xid < self.xmax and xid not in self.running


class Writer(NamedTuple):
    """A transaction of the application, after `done` of its steps."""

    program: tuple[Step, ...]
    done: int = 0
    xid: int = 0
    marked: bool = False
    holds: bool = False
    rings: bool = False
    visible: bool = False
    was_silent: bool = False
    saw_sleep: bool = False
    savepoint: tuple[bool, bool, bool] = (False, False, False)  # marked, holds, rings

    @property
    def running(self) -> bool:
        """Whether a snapshot lists it as in progress."""
        return self.xid > 0 and not self.visible and self.done < len(self.program)


Mode = Literal["awake", "asking", "granted", "asleep", "rung", "hearing late", "down"]


class State(NamedTuple):
    """Everything there is. `read` is what has been recomputed and stored, which no crash takes away."""

    writers: tuple[Writer, ...]
    mode: Mode = "awake"
    bell: bool = False
    next_xid: int = 1
    cursor: Cursor = Cursor(1, frozenset())
    saved: Cursor = Cursor(1, frozenset())
    read: frozenset[int] = frozenset()
    half_read: bool = False
    crashes_left: int = 0  # 0 or 1

    def snapshot(self) -> Cursor:
        """Take a snapshot, as PostgreSQL would now."""
        return Cursor(self.next_xid, frozenset(each.xid for each in self.writers if each.running))


class Model:
    """The protocol without some of its rules."""

    def __init__(self, *without: Rule) -> None:
        self._without = frozenset(without)

    def walk(self, *programs: tuple[Step, ...], crashes: int = 0) -> tuple[int, str | None]:
        """Visit every reachable state; return how many there are, and what is wrong in the first that is wrong."""
        first = State(tuple(map(Writer, programs)), crashes_left=crashes)
        seen, ahead = {first}, [first]
        while ahead:
            state = ahead.pop()
            if (wrong := _wrong(state)) is not None:
                return len(seen), wrong
            for following in (*self._of_the_daemon(state), *self._of_the_writers(state)):
                if following not in seen:
                    seen.add(following)
                    ahead.append(following)
        return len(seen), None

    def _lacks(self, rule: Rule) -> bool:
        return rule in self._without

    def _of_the_writers(self, state: State) -> Iterator[State]:
        for index, writer in enumerate(state.writers):
            if writer.done < len(writer.program):
                moved, after = self._step(state, writer)
                if moved.program[moved.done :] == ("signal",) and not moved.rings:
                    moved = moved._replace(done=moved.done + 1)
                if moved.done == len(moved.program):  # nobody asks any more how it came to its end
                    moved = Writer(moved.program, moved.done, moved.xid, moved.marked, visible=moved.visible)
                # Which of two equal transactions did it makes no difference.
                writers = sorted((*state.writers[:index], moved, *state.writers[index + 1 :]))
                yield after._replace(writers=tuple(writers))

    def _step(self, state: State, writer: Writer) -> tuple[Writer, State]:
        step = writer.program[writer.done]
        if self._lacks(Rule.UNLOCK_LAST):
            early: dict[Step, Step] = {"visible": "unlock", "unlock": "visible"}
            step = early.get(step, step)
        if writer.done == 0 and self._lacks(Rule.FLAG_IS_A_LOCK):
            writer = writer._replace(saw_sleep=state.mode not in ("awake", "down"))
        writer = writer._replace(done=writer.done + 1)
        moved = self._try(state, writer) if step == "try" else _moved(writer, step, state.next_xid)
        rung = step == "signal" and writer.rings and state.mode != "down"
        return moved, state._replace(next_xid=max(state.next_xid, moved.xid + 1), bell=state.bell or rung)

    def _try(self, state: State, writer: Writer) -> Writer:
        """Try K shared: it is refused where the daemon has it, and where the daemon waits for it."""
        if self._lacks(Rule.TRY_EACH_TIME) and writer.was_silent:
            return writer
        if self._lacks(Rule.FLAG_IS_A_LOCK):
            return writer._replace(rings=writer.rings or writer.saw_sleep)
        if writer.holds or state.mode in ("awake", "down"):
            return writer._replace(
                holds=not self._lacks(Rule.SILENT_HOLDS_K), was_silent=self._lacks(Rule.TRY_EACH_TIME)
            )
        return writer._replace(rings=True)

    def _of_the_daemon(self, state: State) -> Iterator[State]:
        if state.mode == "down":
            yield state._replace(mode="awake")
            return
        if state.crashes_left:  # without one to come nobody asks what was saved
            yield state._replace(saved=state.snapshot() if self._lacks(Rule.SAVED_AFTER_STORED) else state.cursor)
            yield state._replace(mode="down", bell=False, half_read=False, cursor=state.saved, crashes_left=0)
        if state.half_read:
            yield self._read(state)
            return
        match state.mode:
            case "awake":
                yield state._replace(mode="asking")
                yield self._read(state)
            case "asking":
                if self._lacks(Rule.WAIT_FOR_GRANT) or not any(each.holds for each in state.writers):
                    yield state._replace(mode="asleep" if self._lacks(Rule.DRAIN_AFTER_GRANT) else "granted")
                yield state._replace(mode="awake")
                yield self._read(state)
            case "asleep":
                if state.bell:
                    yield state._replace(mode="rung", bell=self._lacks(Rule.BELL_BEFORE_DRAIN))
                yield state._replace(mode="awake")
            case "hearing late":
                yield state._replace(mode="asleep", bell=False)
            case _:
                yield self._read(state)

    def _read(self, state: State) -> State:
        """Drain: what the cursor does not cover and is visible now; then the snapshot of now is the cursor."""
        after: Mode = "asleep" if state.mode in ("granted", "rung") else state.mode
        if state.mode == "rung" and self._lacks(Rule.BELL_BEFORE_DRAIN):
            after = "hearing late"
        if state.half_read:
            return state._replace(mode=after, cursor=state.snapshot(), half_read=False)
        running = frozenset[int]() if self._lacks(Rule.CURSOR_KEEPS_RUNNING) else state.cursor.running
        fresh = {
            each.xid
            for each in state.writers
            if each.visible and each.marked and (each.xid >= state.cursor.xmax or each.xid in running)
        }
        if self._lacks(Rule.CURSOR_OF_THE_READ):
            return state._replace(read=state.read | fresh, half_read=True)
        return state._replace(mode=after, cursor=state.snapshot(), read=state.read | fresh)


def _wrong(state: State) -> str | None:
    for writer in state.writers:
        if writer.visible and writer.marked and writer.xid not in state.read:
            if state.cursor.covers(writer.xid):
                return "a change is skipped"
            rings_yet = writer.rings and writer.done < len(writer.program)
            if state.mode == "asleep" and not state.bell and not rings_yet:
                return "it sleeps over a change"
    return None


def _moved(writer: Writer, step: Step, next_xid: int) -> Writer:
    changed: dict[str, Any]
    match step:
        case "change":
            changed = {"marked": True, "xid": writer.xid or next_xid}
        case "savepoint":
            changed = {"savepoint": (writer.marked, writer.holds, writer.rings)}
        case "back":
            changed = dict(zip(("marked", "holds", "rings"), writer.savepoint, strict=True))
        case "abort":
            changed = {"marked": False, "holds": False, "rings": False}
        case "visible":
            changed = {"visible": True}
        case "unlock":
            changed = {"holds": False}
        case _:
            changed = {}
    return writer._replace(**changed)
