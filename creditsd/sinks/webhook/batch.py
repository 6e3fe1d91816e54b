"""Builds and signs what is posted to a webhook that takes many users' totals at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from itertools import groupby
from math import ceil

from creditsd.domain.total import Total, encode
from creditsd.sinks.webhook.answers import Outcome
from creditsd.sinks.webhook.message import Message, Parcel, renewed, signed, total_of, webhook_id_of
from creditsd.sinks.webhook.signing import Signer

TYPE = "credits.batch"

# Of so many users at most it is remembered that they go alone; more than that are not a few who spoil it for others.
_MOST_ALONE = 10_000


class BatchWriter:
    """Builds the batches of one sink: each user once, by ascending version.

    Whoever was refused, or broke the receiver, goes alone the next time, so that nobody is refused again for a
    neighbour's sake. An answer that asks for patience blames nobody, and would otherwise bring more requests.
    """

    def __init__(self, sink: str, size: int, signers: Sequence[Signer]) -> None:
        self.together = size
        self._sink = sink
        self._signers = signers
        self._alone: set[str] = set()

    def requests(self, totals: Sequence[Total]) -> int:
        """Return about how many requests these totals are."""
        alone = sum(each.user_id in self._alone for each in totals)
        return alone + ceil((len(totals) - alone) / self.together)

    def parcels(self, totals: Iterable[Total]) -> Iterable[Parcel]:
        """Build a batch of these totals, or several around those who go alone; in their order."""
        for alone, group in groupby(totals, lambda total: total.user_id in self._alone):
            if alone:
                yield from (self._parcel((each,)) for each in group)
            else:
                yield self._parcel(tuple(group))

    def halves(self, parcel: Parcel) -> Iterator[Parcel]:
        """Build the two halves of a batch that was refused."""
        middle = len(parcel.totals) // 2
        yield self._parcel(parcel.totals[:middle])
        yield self._parcel(parcel.totals[middle:])

    def fresh(self, message: Message) -> Message:
        """Sign a batch anew if it has waited; its id stays."""
        return renewed(message, self._signers)

    def learn(self, outcomes: Mapping[str, Outcome]) -> None:
        """Remember who is to go alone."""
        for user_id, outcome in outcomes.items():
            if outcome.kind == "arrived":
                self._alone.discard(user_id)
            elif outcome.kind in ("refused", "troubled"):
                self._alone.add(user_id)
        if len(self._alone) > _MOST_ALONE:
            self._alone.clear()

    def _parcel(self, totals: Sequence[Total]) -> Parcel:
        told = [each for each in totals if each.owed is None or any(one.type == "credits.updated" for one in each.owed)]
        return Parcel(totals, [self._message(told)] if told else [])

    def _message(self, totals: Sequence[Total]) -> Message:
        names = [word for each in totals for word in (each.user_id, str(each.version))]
        timestamp = encode(max(each.updated_at for each in totals).astimezone(UTC))
        listed = b",".join(total_of(each) + b"}" for each in totals)
        body = b'{"type":"%b","timestamp":%b,"data":{"totals":[%b]}}' % (TYPE.encode(), timestamp, listed)
        return signed(webhook_id_of(self._sink, TYPE, *names), body, None, self._signers)
