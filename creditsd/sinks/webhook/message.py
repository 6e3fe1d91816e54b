"""Builds and signs what is posted to a webhook: one event of one user."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from multidict import istr

from creditsd.domain.events import Event, Type
from creditsd.domain.total import Total, encode
from creditsd.sinks.webhook.signing import Signer

# Whoever had to wait is signed again, because the timestamp is the attempt's.
_SIGNED_SECONDS = 1.0

# As the client keeps them, which spares it to look at every letter of them, every time.
_ID, _TIMESTAMP, _SIGNATURE = istr("webhook-id"), istr("webhook-timestamp"), istr("webhook-signature")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Message:
    """One signed event: body and headers."""

    total: Total
    event: Event
    body: bytes
    headers: dict[str, str]
    signed_at: float


class MessageWriter:
    """Builds the messages of one sink, for the events it subscribed to."""

    def __init__(self, sink: str, events: Collection[Type], signers: Sequence[Signer]) -> None:
        self._sink = sink
        self._events = events
        self._signers = signers

    def write(self, total: Total) -> Sequence[Message]:
        """Build a message for each event owed of a total that the sink subscribed to, in their order."""
        owed = (Event("credits.updated", total.version),) if total.owed is None else total.owed
        return [self._sign(total, event) for event in owed if event.type in self._events]

    def fresh(self, message: Message) -> Message:
        """Sign a message anew if it has waited; its id stays."""
        waited = time.time() - message.signed_at
        return message if waited < _SIGNED_SECONDS else self._sign(message.total, message.event)

    def _sign(self, total: Total, event: Event) -> Message:
        body, now = _body(total, event), time.time()
        webhook_id, timestamp = _webhook_id(self._sink, total.user_id, event), str(int(now))
        content = f"{webhook_id}.{timestamp}.".encode() + body
        signed = " ".join([each.sign(content) for each in self._signers])
        return Message(total, event, body, {_ID: webhook_id, _TIMESTAMP: timestamp, _SIGNATURE: signed}, now)


def _webhook_id(sink: str, user_id: str, event: Event) -> str:
    """Derive `webhook-id`: stable over retries and restarts, different for each event."""
    parts = [sink, user_id, str(event.version)]
    if event.type != "credits.updated":  # its name is as old as the first webhooks
        parts.append(event.type)
    return f"msg_{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"


def _body(total: Total, event: Event) -> bytes:
    more = b"," + encode(event.facts)[1:-1] if event.facts else b""
    data = b'%b,"previous":%b,"cause":"%b"%b}' % (total.json()[:-1], encode(total.previous), total.cause.encode(), more)
    return b'{"type":"%b","timestamp":%b,"data":%b}' % (event.type.encode(), encode(_happened_at(total, event)), data)


def _happened_at(total: Total, event: Event) -> datetime:
    """Return when it happened; of what an older version brought, that one's number tells."""
    if event.version == total.version:
        return total.updated_at.astimezone(UTC)
    return _EPOCH + timedelta(microseconds=event.version)
