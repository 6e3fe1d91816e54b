"""What one consumer was told, in the order it came."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.faults.soak.rule import State, told


class Arrival(NamedTuple):
    """One total, and when it came, in seconds since 1970."""

    version: int
    total: State
    at: float


@dataclass(slots=True)
class Heard:
    """A consumer as docs/sinks.md asks for one: it keeps the higher version, and here notes whatever else comes.

    `only`: the users it follows, where they are not all. `late` are first arrivals of a version below one that came
    before: (user, the higher one, this one). `again` are those that came once more: (user, the newest one, this one).
    """

    name: str
    only: Collection[str] = ()
    newest: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: int = 0
    versions: dict[str, set[int]] = field(default_factory=dict)
    late: list[tuple[str, int, int]] = field(default_factory=list)
    again: list[tuple[str, int, int]] = field(default_factory=list)
    _since: dict[str, list[Arrival]] = field(default_factory=dict)
    _judged: dict[str, int] = field(default_factory=dict)

    def hear(self, document: dict[str, Any]) -> None:
        """Take note of one total."""
        user, version = document["user_id"], document["version"]
        self.messages += 1
        known = self.versions.setdefault(user, set())
        if version in known:
            self.again.append((user, self.newest[user]["version"], version))
            return
        known.add(version)
        before = self.newest.get(user)
        if before is not None and version < before["version"]:
            self.late.append((user, before["version"], version))
            return
        self.newest[user] = document
        if version > self._judged.get(user, 0):
            self._since.setdefault(user, []).append(Arrival(version, told(document), time.time()))

    def never_true(self, states: Callable[[str], Sequence[State]]) -> list[str]:
        """Name each total that was told since the last time and true at no commit after the one told before it."""
        return [text for user, heard in self._since.items() if (text := _mismatch(user, heard, states(user)))]

    def first(self, user: str, total: State, after: float) -> float | None:
        """When a user was first told a total, after a moment and since the last time; None if never."""
        arrivals = self._since.get(user, ())
        return next((each.at for each in arrivals if each.total == total and each.at >= after), None)

    def begin_anew(self, judged: Mapping[str, int]) -> None:
        """Forget what was judged, up to these versions; whatever of that comes later was on its way for long."""
        self._judged.update(judged)
        self._since.clear()
        self.late.clear()
        self.again.clear()

    def at(self) -> Mapping[str, int]:
        """Which version of each user it has come to."""
        return {user: document["version"] for user, document in self.newest.items()}

    def holds(self) -> Mapping[str, State]:
        """What it believes of each user."""
        return {user: told(document) for user, document in self.newest.items()}


def _mismatch(user: str, heard: Sequence[Arrival], states: Sequence[State]) -> str:
    position = 0
    for version, total, _ in heard:
        try:
            position = states.index(total, position)
        except ValueError:
            return f"{user} was told {total} by {version}, true at no commit since {states[position:][:12]}"
    return ""
