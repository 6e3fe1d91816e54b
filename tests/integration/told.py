"""The plain model of one sink: what was stored of each user, and what its receiver has taken of that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from creditsd.domain.total import Total


class Told:
    """With `every`, the sink is owed each version of a user; without, the newest one."""

    def __init__(self, *, every: bool) -> None:
        self._every = every
        self._steps: defaultdict[str, list[int]] = defaultdict(list)
        self._arrived: defaultdict[str, list[int]] = defaultdict(list)

    @property
    def users(self) -> Sequence[str]:
        """Of whom anything was stored."""
        return list(self._steps)

    def store(self, user_id: str, version: int) -> None:
        self._steps[user_id].append(version)

    def take(self, totals: Iterable[Total]) -> None:
        """Note what has arrived."""
        for total in totals:
            self._arrived[total.user_id].append(total.version)

    def catch_up(self, user_id: str) -> None:
        """Note that somebody else has told all that was owed."""
        self._arrived[user_id] += self.untold(user_id)

    def forget(self) -> None:
        """Owe everything once more."""
        self._arrived.clear()

    def owed(self, user_id: str) -> Sequence[int]:
        steps = self._steps[user_id]
        return steps if self._every else steps[-1:]

    def untold(self, user_id: str) -> Sequence[int]:
        return [step for step in self.owed(user_id) if step not in self._arrived[user_id]]

    def check_that_nobody_is_forgotten(self, cursor: int, waiting: Mapping[str, int]) -> None:
        """Each total has arrived, or waits for its next try, or is still ahead of the cursor."""
        for each in self._steps:
            for step in self.untold(each):
                kept = each in waiting and (waiting[each] <= step or not self._every)
                assert step > cursor or kept, (
                    f"{each} was never told of {step}: the cursor is at {cursor}, and nothing waits"
                )

    def check_that_none_comes_after_a_newer_one(self) -> None:
        """What comes twice may come late; with every step, each follows the one before."""
        for each, versions in self._arrived.items():
            first = list(dict.fromkeys(versions))
            assert first == (self._steps[each][: len(first)] if self._every else sorted(first)), (
                f"{each} was told {versions}"
            )

    def check_the_end(self) -> None:
        """Everyone has the newest."""
        self.check_that_none_comes_after_a_newer_one()
        for each, steps in self._steps.items():
            assert steps[-1] in self._arrived[each]
