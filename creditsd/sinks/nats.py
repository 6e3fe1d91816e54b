"""NATS JetStream: the newest total of each user in a stream or a key-value bucket, never replaced by an older one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nats.errors
import nats.js.errors
import orjson
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, Header
from pydantic import Field, PositiveInt

from creditsd.brokers import nats as broker
from creditsd.brokers.nats import SUBJECT_BYTES, NatsConnection, encode_user
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.sinks import Rejection

MAX_BATCH = 500  # each total costs two requests, all in flight at once, which must end within timeout_seconds
_RIGHTS = "publish on {subjects} and $JS.API.>, subscribe on _INBOX.>"
_NO_STREAM = "its stream is gone: it is made again at the next try"

# Error codes of JetStream (server/errors.json of nats-server) that speak of the one message.
_TOO_LARGE = 10054
_WRONG_LAST_SEQUENCE = (10071, 10164)


class Options(broker.NatsOptions):
    """What can be set beside the url."""

    max_msgs_per_subject: PositiveInt = 1
    """how many totals of a user to keep; of a bucket, its history (64 at most)"""
    replicas: int = Field(default=1, ge=1, le=5)
    """of the stream or bucket that is made"""


class NatsSink:
    """Stores each total in a stream (or bucket) under a subject (or key) per user.

    Each total is stored on condition that the subject's last message is still the one whose version was just
    compared, so an older version cannot replace a newer one, whoever else is writing.
    """

    max_batch = MAX_BATCH
    untried = "to connect would make the stream where there is none"

    def __init__(self, server: broker.NatsBroker, options: Options) -> None:
        self._server = server
        self._options = options

    async def open(self) -> None:
        """Connect, and make the stream or bucket if there is none; one that exists is left as it is."""
        await self._server.connected(self._prepare)

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Store each total that is newer than the one held, all at once, and await every acknowledgement.

        Refused is a total too large for the server or the stream, one whose user id makes too long a subject,
        and one whose subject another program wrote to at the same moment.
        """
        if not totals:
            return []
        link = await self._server.connected(self._prepare)
        outcomes = await self._server.together(link, [self._store(link, total) for total in totals])
        return [outcome for outcome in outcomes if outcome is not None]

    async def held(self, user_id: str) -> int | None:
        """Read the version of the user's last message; None if there is none, or none of ours."""
        return (await self.held_many([user_id]))[0]

    async def held_many(self, user_ids: Sequence[str]) -> Sequence[int | None]:
        """Read the version of each user's last message, all at once."""
        link = await self._server.connected(self._prepare)
        found = await self._server.together(
            link, [self._server.last(link, self._server.subject(each)) for each in user_ids]
        )
        return [_version(payload) or None for _, payload in found]

    async def forget(self, user_id: str) -> int:
        """Erase the user's messages, or the key with its history; return how many there were."""
        link = await self._server.connected(self._prepare)
        (erased,) = await self._server.together(link, [self._purge(link, self._server.subject(user_id))])
        return int(erased)

    async def close(self) -> None:
        """Close the connection, waiting 2 s at most for a server that does not let go."""
        await self._server.close()

    async def _store(self, link: NatsConnection, total: Total) -> Rejection | None:
        user = encode_user(total.user_id)
        subject = self._server.prefix + user
        if len(subject) > SUBJECT_BYTES:
            return Rejection(total, f"the user id is too long: its subject has more than {SUBJECT_BYTES} bytes")
        sequence, payload = await self._server.last(link, subject)
        if sequence and _version(payload) >= total.version:  # of a test message it is 0, stored where nothing is
            return None
        headers: dict[str, Any] = {
            Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(sequence),
            Header.EXPECTED_STREAM.value: self._server.stream,
        }
        if not self._options.bucket:  # a key that was deleted by hand may be stored again at once
            headers[Header.MSG_ID.value] = f"{user}:{total.version}"
        try:
            await link.jetstream.publish(subject, total.json(), headers=headers)
        except nats.errors.MaxPayloadError:
            return Rejection(total, "the total is larger than the server's max_payload")
        except nats.js.errors.APIError as error:
            if error.err_code in _WRONG_LAST_SEQUENCE:
                return Rejection(total, "another program wrote to the same subject at the same moment", error.code)
            if error.err_code == _TOO_LARGE:
                return Rejection(total, "the total is larger than the stream's max_msg_size", error.code)
            raise
        return None

    async def _purge(self, link: NatsConnection, subject: str) -> int:
        if len(subject) > SUBJECT_BYTES:
            return 0
        timeout = self._options.timeout_seconds
        request = orjson.dumps({"filter": subject})
        answer = await link.client.request(f"$JS.API.STREAM.PURGE.{self._server.stream}", request, timeout=timeout)
        said = orjson.loads(answer.data)
        if "error" in said:
            raise nats.js.errors.APIError.from_error(said["error"])
        return int(said["purged"])

    async def _prepare(self, jetstream: JetStreamContext) -> None:
        options = self._options
        try:
            await jetstream.stream_info(self._server.stream)
        except nats.js.errors.NotFoundError:
            if options.bucket:
                history, replicas = options.max_msgs_per_subject, options.replicas
                await jetstream.create_key_value(bucket=options.bucket, history=history, replicas=replicas)
                return
            await jetstream.add_stream(
                name=self._server.stream,
                subjects=[f"{self._server.prefix}*"],
                max_msgs_per_subject=options.max_msgs_per_subject,
                discard=DiscardPolicy.OLD,
                num_replicas=options.replicas,
            )


def create(name: str, url: str, options: Options) -> NatsSink:
    """Make the sink for a `nats:` or `nats+tls:` url; several servers are separated by commas. Raises ConfigError."""
    user = broker.User(f"sink {name}", SinkUnavailable, _RIGHTS, _NO_STREAM)
    return NatsSink(broker.reach(user, url, options), options)


def _version(payload: bytes) -> int:
    """Read the version out of a message; whatever is no total of ours counts as 0 and is replaced."""
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return 0
    version = document.get("version") if isinstance(document, dict) else None
    return version if isinstance(version, int) else 0
