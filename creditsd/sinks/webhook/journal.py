"""Remembers the newest requests to an endpoint until somebody writes them down."""

from __future__ import annotations

import time
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
    """One request, as it was when it had ended."""

    at: float
    users: Sequence[str]
    webhook_id: str
    outcome: Outcome
    seconds: float


class Journal:
    """Bounded in requests, and in what is kept of each: nothing of what was sent, and of the answer what was read."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets
        self._arrived: deque[_Noted] = deque(maxlen=MOST_EACH)
        self._others: deque[_Noted] = deque(maxlen=MOST_EACH)

    def note(self, parcel: Parcel, message: Message, outcome: Outcome, seconds: float) -> None:
        """Remember a request that took so long and has just ended."""
        kept = self._arrived if outcome.kind == "arrived" else self._others
        users = [each.user_id for each in parcel.totals]
        kept.append(_Noted(time.time(), users, message.webhook_id, outcome, seconds))

    def take(self) -> Sequence[DeliveryAttempt]:
        """Return what was noted since the last time, in order."""
        noted = sorted((*self._arrived, *self._others), key=lambda each: each.at)
        self._arrived.clear()
        self._others.clear()
        return [self._attempt(each) for each in noted]

    def _attempt(self, noted: _Noted) -> DeliveryAttempt:
        """Write down what was noted; most requests are passed over before that."""
        outcome, users = noted.outcome, noted.users
        answer = outcome.reason if outcome.status is None else self._answer(outcome.body)
        return DeliveryAttempt(
            datetime.fromtimestamp(noted.at, UTC),
            users[0] if len(users) == 1 else None,
            len(users),
            noted.webhook_id,
            outcome.status,
            round(noted.seconds * 1000),
            outcome.kind,
            answer,
            () if len(users) == 1 else _named(users, answer),
        )

    def _answer(self, body: bytes) -> str:
        """Make the first bytes of an answer printable, without our secrets: not one that was read half, either."""
        if not body:
            return ""
        text = body.decode(errors="replace")
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        for secret in self._secrets:
            half = next((n for n in range(len(secret) - 1, _FEWEST_SECRET - 1, -1) if text.endswith(secret[:n])), 0)
            text = text[: len(text) - half]
        return one_line(text).encode()[:ANSWER_BYTES].decode(errors="ignore")


def _named(users: Sequence[str], answer: str) -> tuple[str, ...]:
    """Return whom an answer names of these users, in whatever letters."""
    if not answer:
        return ()
    told = answer.casefold()
    return tuple(each for each in users if each.casefold() in told)
