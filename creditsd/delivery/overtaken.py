"""Which totals are not the newest any more, for a sink that has them wait for their turn."""

from __future__ import annotations

from collections.abc import Sequence

from creditsd.domain.total import Total


class Overtaken:
    """Says of a total whether a newer one follows; whoever is `passed` over for that is told that one, and not this.

    It need not know all: of whom it has forgotten, both are told. A total that has something else to tell than that it
    is new is never passed over: how far a user has been told of that, only what has arrived says.
    """

    def __init__(self, most_known: int) -> None:
        self._most_known = most_known
        self._newest: dict[str, int] = {}
        self._heeded = False
        self.passed: set[str] = set()

    def __call__(self, total: Total) -> bool:
        """Whether to pass it over."""
        if not self._heeded or self._newest.get(total.user_id, 0) <= total.version or _brings_more(total):
            return False
        self.passed.add(total.user_id)
        return True

    def begin(self, *, heeded: bool) -> None:
        """Begin a delivery; what is not to be replaced is not `heeded`."""
        self._heeded = heeded
        self.passed.clear()

    def offer(self, totals: Sequence[Total]) -> None:
        """Note totals that were just stored, and follow what is under way."""
        if len(self._newest) + len(totals) > self._most_known:
            self._newest.clear()
        self._newest.update((each.user_id, each.version) for each in totals)

    def clear(self) -> None:
        """Forget all: nothing waits, or what comes next is read from the table."""
        self._newest.clear()


def _brings_more(total: Total) -> bool:
    return any(event.type != "credits.updated" for event in total.owed or ())
