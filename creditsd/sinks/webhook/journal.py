"""Remembers the newest requests to an endpoint until somebody writes them down."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from creditsd.config.printable import one_line
from creditsd.config.redact import REDACTED
from creditsd.domain.delivery_attempt import DeliveryAttempt
from creditsd.sinks.webhook.answers import Outcome
from creditsd.sinks.webhook.message import Message, Parcel

MOST_EACH = 250  # of those that arrived and of those that did not, so that the many do not hide the few

ANSWER_BYTES = 200

_FEWEST_SECRET = 4  # characters of a secret; fewer tell nothing


class _Noted(NamedTuple):
    at: datetime
    seconds: float
    parcel: Parcel
    message: Message
    outcome: Outcome


class Journal:
    """Bounded, and cheap where more is sent than anybody reads: what is made of an answer is made when it is taken."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets
        self._arrived: deque[_Noted] = deque(maxlen=MOST_EACH)
        self._others: deque[_Noted] = deque(maxlen=MOST_EACH)

    def note(self, parcel: Parcel, message: Message, outcome: Outcome, seconds: float) -> None:
        """Remember a request that took so long."""
        kept = self._arrived if outcome.kind == "arrived" else self._others
        kept.append(_Noted(datetime.now(UTC), seconds, parcel, message, outcome))

    def take(self) -> Sequence[DeliveryAttempt]:
        """Return what was noted since the last time, in order."""
        noted = sorted((*self._arrived, *self._others), key=lambda each: each.at)
        self._arrived.clear()
        self._others.clear()
        return [self._attempt(each) for each in noted]

    def _attempt(self, noted: _Noted) -> DeliveryAttempt:
        totals, outcome = noted.parcel.totals, noted.outcome
        return DeliveryAttempt(
            noted.at,
            totals[0].user_id if len(totals) == 1 else None,
            len(totals),
            noted.message.webhook_id,
            outcome.status,
            round(noted.seconds * 1000),
            outcome.kind,
            self._answer(outcome.body) if outcome.status is not None else outcome.reason,
        )

    def _answer(self, body: bytes) -> str:
        """Make the first bytes of an answer printable, without our secrets: not one that was read half, either."""
        text = body.decode(errors="replace")
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        for secret in self._secrets:
            half = next((n for n in range(len(secret) - 1, _FEWEST_SECRET - 1, -1) if text.endswith(secret[:n])), 0)
            text = text[: len(text) - half]
        return one_line(text).encode()[:ANSWER_BYTES].decode(errors="ignore")
