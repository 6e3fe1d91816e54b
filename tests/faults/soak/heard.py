"""What one consumer was told, in the order it came."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.soak.rule import State, told


@dataclass(slots=True)
class Heard:
    """A consumer as docs/sinks.md asks for one: it keeps the higher version, and here notes whatever else comes.

    `late` are first arrivals of a version below one that came before: (user, the higher one, this one).
    """

    name: str
    newest: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: int = 0
    versions: dict[str, set[int]] = field(default_factory=dict)
    late: list[tuple[str, int, int]] = field(default_factory=list)
    _since: dict[str, list[tuple[int, State]]] = field(default_factory=dict)
    _judged: dict[str, int] = field(default_factory=dict)

    def hear(self, document: dict[str, Any]) -> None:
        """Take note of one total."""
        user, version = document["user_id"], document["version"]
        self.messages += 1
        known = self.versions.setdefault(user, set())
        if version in known:
            return
        known.add(version)
        before = self.newest.get(user)
        if before is not None and version < before["version"]:
            self.late.append((user, before["version"], version))
            return
        self.newest[user] = document
        if version > self._judged.get(user, 0):
            self._since.setdefault(user, []).append((version, told(document)))

    def never_true(self, states: Callable[[str], Sequence[State]]) -> list[str]:
        """Name each total that was told since the last time and true at no commit after the one told before it."""
        return [text for user, heard in self._since.items() if (text := _mismatch(user, heard, states(user)))]

    def begin_anew(self, judged: Mapping[str, int]) -> None:
        """Forget what was judged, up to these versions; whatever of that comes later was on its way for long."""
        self._judged.update(judged)
        self._since.clear()
        self.late.clear()

    def holds(self) -> Mapping[str, State]:
        """What it believes of each user."""
        return {user: told(document) for user, document in self.newest.items()}


def _mismatch(user: str, heard: Sequence[tuple[int, State]], states: Sequence[State]) -> str:
    position = 0
    for version, total in heard:
        try:
            position = states.index(total, position)
        except ValueError:
            return f"{user} was told {total} by {version}, true at no commit since {states[position:][:12]}"
    return ""
