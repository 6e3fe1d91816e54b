"""Builds and signs what is posted to a webhook: one event of one user."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from multidict import istr

from creditsd.domain.events import Event, Type
from creditsd.domain.total import Total, encode
from creditsd.sinks.webhook.signing import Signer

# Signing a few at a time costs a third of signing each as it is sent: the processor finds everything at hand.
_WRITTEN_TOGETHER = 16

# Whoever had to wait is signed again, because the timestamp is the attempt's.
_SIGNED_SECONDS = 1.0

# As the client keeps them, which spares it to look at every letter of them, every time.
_ID, _TIMESTAMP, _SIGNATURE = istr("webhook-id"), istr("webhook-timestamp"), istr("webhook-signature")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Message(NamedTuple):
    """One signed request, body and headers; it tells of one event of one user, or with None of many users."""

    webhook_id: str
    event: Event | None
    body: bytes
    headers: dict[str, str]
    signed_at: float


class Parcel(NamedTuple):
    """What goes out for these totals: one user's messages, one after the other, or one message of many users."""

    totals: Sequence[Total]
    messages: Sequence[Message]


class MessageWriter:
    """Builds the messages of one sink, for the events it subscribed to."""

    together = _WRITTEN_TOGETHER

    def __init__(self, sink: str, events: Collection[Type], signers: Sequence[Signer]) -> None:
        self._sink = sink
        self._events = events
        self._signers = signers

    def requests(self, totals: Sequence[Total]) -> int:
        """Return how many requests may run at once for these totals: one user's go one after the other."""
        return len(totals)

    def parcels(self, totals: Iterable[Total]) -> Iterable[Parcel]:
        """Build for each total a message for each event owed that the sink subscribed to, in their order."""
        return [Parcel((each,), self._messages(each)) for each in totals]

    def fresh(self, message: Message) -> Message:
        """Sign a message anew if it has waited; its id stays."""
        return renewed(message, self._signers)

    def _messages(self, total: Total) -> Sequence[Message]:
        owed = (Event("credits.updated", total.version),) if total.owed is None else total.owed
        return [self._message(total, event) for event in owed if event.type in self._events]

    def _message(self, total: Total, event: Event) -> Message:
        webhook_id = webhook_id_of(*_named(self._sink, total.user_id, event))
        return signed(webhook_id, _body(total, event), event, self._signers)


def signed(webhook_id: str, body: bytes, event: Event | None, signers: Sequence[Signer]) -> Message:
    """Sign a body, as of now."""
    now = time.time()
    timestamp = str(int(now))
    content = f"{webhook_id}.{timestamp}.".encode() + body
    signatures = " ".join([each.sign(content) for each in signers])
    return Message(webhook_id, event, body, {_ID: webhook_id, _TIMESTAMP: timestamp, _SIGNATURE: signatures}, now)


def renewed(message: Message, signers: Sequence[Signer]) -> Message:
    """Sign a message anew if it has waited; its id stays."""
    waited = time.time() - message.signed_at
    return message if waited < _SIGNED_SECONDS else signed(message.webhook_id, message.body, message.event, signers)


def webhook_id_of(*parts: str) -> str:
    """Derive `webhook-id` from what it names: stable over retries and restarts."""
    return f"msg_{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"


def total_of(total: Total) -> bytes:
    """Encode a total with what was before it and why it changed, but for the closing brace."""
    return b'%b,"previous":%b,"cause":"%b"' % (total.json()[:-1], encode(total.previous), total.cause.encode())


def _named(sink: str, user_id: str, event: Event) -> Sequence[str]:
    """Name one event of one user: another event has another id."""
    name = (sink, user_id, str(event.version))
    # The name of credits.updated is as old as the first webhooks.
    return name if event.type == "credits.updated" else (*name, event.type)


def _body(total: Total, event: Event) -> bytes:
    more = b"," + encode(event.facts)[1:-1] if event.facts else b""
    data = total_of(total) + more + b"}"
    return b'{"type":"%b","timestamp":%b,"data":%b}' % (event.type.encode(), encode(_happened_at(total, event)), data)


def _happened_at(total: Total, event: Event) -> datetime:
    """Return when it happened; of what an older version brought, that one's number tells."""
    if event.version == total.version:
        return total.updated_at.astimezone(UTC)
    return _EPOCH + timedelta(microseconds=event.version)
