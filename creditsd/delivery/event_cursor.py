"""High-water mark of the events that one sink has announced: nothing twice, and nothing it was away for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from creditsd.domain.events import Type
from creditsd.domain.total import Total

REMEMBERED_USERS = 100_000  # past them a sink that catches up may tell one twice, under the same id


@dataclass(frozen=True, slots=True)
class Refusal:
    """How far a user had been told before something was refused, and what has been accepted of it since."""

    after: int
    accepted: Mapping[Type, int]


class EventCursor:
    """Everybody has been told what happened up to the version `after`, and a few were told more.

    The cursor alone cannot say it: a sink that catches up meets a user at the newest total, which may lie far behind
    the cursor's next page, with all that happened to that user while the sink was away.

    It is not `kept` for a sink that tells of totals alone.
    """

    def __init__(self, *, kept: bool) -> None:
        self.kept = kept
        self._after = 0
        self._told: dict[str, int] = {}

    @property
    def after(self) -> int | None:
        """The version up to which everybody has been told; None where it is not kept."""
        return self._after if self.kept else None

    def begin(self, after: int) -> None:
        """Go on from what is saved."""
        self._after = after
        self._told.clear()

    def clear(self, upto: int) -> None:
        """Note that nobody is owed anything that happened up to a version."""
        self._after = upto
        if self._told:
            self._told = {user_id: told for user_id, told in self._told.items() if told > upto}

    def owed(self, totals: Sequence[Total], refusals: Mapping[str, Refusal]) -> Sequence[Total]:
        """Return the totals, each with what is owed beside it; what every total brings, that it is new, goes unsaid."""
        if not self.kept:
            return totals
        return [
            total
            if total.happened is None and total.user_id not in refusals
            else self._with_owed(total, refusals.get(total.user_id))
            for total in totals
        ]

    def told(self, totals: Sequence[Total]) -> None:
        """Note that these have arrived, with what was owed."""
        for total in totals if self.kept else ():
            if total.owed is not None and len(self._told) < REMEMBERED_USERS:
                self._told[total.user_id] = total.version

    def position(self, user_id: str) -> int:
        """Return the version up to which a user has been told what happened, where nothing was refused."""
        return max(self._after, self._told.get(user_id, 0))

    def _with_owed(self, total: Total, refusal: Refusal | None) -> Total:
        refusal = refusal or Refusal(self.position(total.user_id), {})
        owed = [each for each in total.events if each.version > max(refusal.after, refusal.accepted.get(each.type, 0))]
        return total._replace(happened=tuple(owed))
