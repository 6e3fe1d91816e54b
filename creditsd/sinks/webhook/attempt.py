"""The state of one batch: what is sent next, each total's outcome, and when to stop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from creditsd.domain.total import Total
from creditsd.sinks import Rejection
from creditsd.sinks.webhook.answers import ARRIVED, Outcome
from creditsd.sinks.webhook.message import Parcel

# So many users refused one after the other, with nobody's total accepted in between, end the batch: a receiver that
# broke in the middle of it is not to be sent the other thousand. Requests that are on their way come on top.
_REFUSED_IN_A_ROW = 20

# So many users who met a 5xx one after the other say that the receiver is ill; one may be what it cannot digest.
_TROUBLED_IN_A_ROW = 4


class Writer(Protocol):
    """Makes parcels of totals, so many `together`; they contain these totals in their order."""

    @property
    def together(self) -> int:
        """How many totals to write at a time."""

    def parcels(self, totals: Iterable[Total]) -> Iterable[Parcel]:
        """Write what goes out for these totals."""


@dataclass(slots=True)
class Attempt:
    """The totals of one batch. They begin in order, so those that have begun are always the first of the batch."""

    waiting: Iterator[Total]
    writer: Writer
    patience: int
    """So many requests must have found nobody before the endpoint counts as away."""
    overtaken: Callable[[Total], bool] = lambda _: False
    """Whether a newer total follows, so that this one need not be sent."""
    troubled: set[str] = field(default_factory=set)
    """Who met a 5xx since the receiver last took or refused something; the batches of an endpoint share it."""
    written: deque[Parcel] = field(default_factory=deque)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    begun: int = 0
    asked: int = 0
    answered: bool = False
    ended: bool = False
    """Whether nothing more is to be sent, whatever the endpoint says."""
    failed: Outcome | None = None
    refused_in_a_row: int = 0

    @property
    def refusing(self) -> bool:
        """Whether it seems to refuse everyone by now."""
        return self.refused_in_a_row >= _REFUSED_IN_A_ROW

    @property
    def over(self) -> bool:
        """Whether to send no more: the endpoint asks for a pause, refuses everyone, or seems to be away; or we end."""
        failed = self.failed
        if failed is None:
            return self.ended or self.refusing
        stops = self.answered or failed.kind == "gone" or self.asked >= self.patience
        return self.ended or self.refusing or stops

    def more(self) -> bool:
        """Tell whether there is somebody left to send to; what is theirs is then written."""
        if self.over:
            return False
        while not self.written and (taken := list(islice(self.waiting, self.writer.together))):
            self.written.extend(self.writer.parcels(taken))
        return bool(self.written)

    def next(self) -> Parcel | None:
        """Return what to send next, message by message; None at the end, or once the batch is over.

        Totals that bring nothing this endpoint was to be told, or are overtaken, are through without a request.
        """
        while self.more():
            parcel = self.written.popleft()
            self.begun += len(parcel.totals)
            wanted = [each for each in parcel.totals if not self.overtaken(each)]
            if len(wanted) < len(parcel.totals):
                parcel = next(iter(self.writer.parcels(wanted)), Parcel((), ()))
            if parcel.messages:
                self.asked += 1
                return parcel
            self._record(parcel, ARRIVED)
        return None

    def note(self, parcel: Parcel, outcome: Outcome) -> None:
        """Record the outcome of a parcel, which counts for all in it."""
        self._record(parcel, outcome)
        self.answered = self.answered or bool(outcome.accepted)
        match outcome.kind:
            case "gone":
                self.failed = outcome
            case "unsent":
                pass
            case "unavailable":
                self.failed = self.failed or outcome
            case "troubled" if not outcome.accepted:
                self._count_refusal()
                self._count_trouble(parcel, outcome)
            case "refused" | "troubled":
                self._heard(accepted=bool(outcome.accepted))
            case _:
                self._heard(accepted=True)

    def _record(self, parcel: Parcel, outcome: Outcome) -> None:
        for each in parcel.totals:
            self.outcomes[each.user_id] = outcome

    def _heard(self, *, accepted: bool) -> None:
        """Note that the receiver works: it took something, or said that it will not."""
        self.answered = True
        self.troubled.clear()
        if not accepted:
            self._count_refusal()
        elif not self.refusing:  # what comes in late, once it is over, takes nothing back
            self.refused_in_a_row = 0

    def _count_refusal(self) -> None:
        self.refused_in_a_row += 1

    def _count_trouble(self, parcel: Parcel, outcome: Outcome) -> None:
        if len(self.troubled) < _TROUBLED_IN_A_ROW:
            self.troubled.update(each.user_id for each in parcel.totals)
        if len(self.troubled) >= _TROUBLED_IN_A_ROW:
            self.failed = self.failed or outcome

    def through(self, totals: Sequence[Total]) -> int:
        """Return how many of the batch, from its first one on, have begun and were not cut short by an end."""
        begun = enumerate(totals[: self.begun])
        unsent = (number for number, each in begun if self.outcomes.get(each.user_id, ARRIVED).kind == "unsent")
        return next(unsent, self.begun)

    def rejections(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Return those that did not arrive, of totals that have begun."""
        return [
            Rejection(total, outcome.reason, outcome.status, outcome.retry_after_seconds, outcome.accepted)
            for total in totals
            if (outcome := self.outcomes.get(total.user_id, ARRIVED)).kind != "arrived"
        ]

    def pause_seconds(self) -> float | None:
        """Return how long the endpoint asks to be left alone: the longest of what it said."""
        failed = (each for each in self.outcomes.values() if each.kind in ("unavailable", "troubled"))
        return max((each.retry_after_seconds for each in failed if each.retry_after_seconds is not None), default=None)
