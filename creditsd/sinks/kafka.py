"""Kafka: every delivered total appended to a topic, keyed by its user, so that compaction keeps the newest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any, Literal

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    RecordListTooLargeError,
    RequestTimedOutError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
)
from pydantic import BaseModel, Field, FilePath, PositiveFloat, PositiveInt

from creditsd.brokers.connection_loss import loss_named
from creditsd.brokers.servers import authority, listed
from creditsd.brokers.tls import context
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.domain.total import Total
from creditsd.sinks import Rejection

MAX_BATCH = 1000

_GIVE_UP_SECONDS = 0.2
_CLOSE_SECONDS = 1.8

# What the library logs it also raises, and the publisher tells it once.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

_PROTOCOLS = {"kafka": "PLAINTEXT", "kafka+ssl": "SSL", "kafka+sasl": "SASL_PLAINTEXT", "kafka+sasl+ssl": "SASL_SSL"}

# What speaks of single messages; a broker refuses a whole batch of them, and each is then tried alone, later.
_OF_A_MESSAGE = (MessageSizeTooLargeError, RecordListTooLargeError)

_NO_ANSWER = "no answer in time: is it up, is the address right, and is what it advertises reachable from here?"
_MENDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    ((AuthenticationFailedError, SaslAuthenticationFailed), "it refuses the user or password: mend the url"),
    (UnsupportedSaslMechanismError, "it does not offer this sasl_mechanism: choose another"),
    (TopicAuthorizationFailedError, "its user lacks rights: allow Describe and Write on the topic"),
    (ClusterAuthorizationFailedError, "its user lacks rights: allow IdempotentWrite, or set idempotence = false"),
    (
        UnknownTopicOrPartitionError,
        "the topic is missing: make it, best with cleanup.policy=compact and as many partitions as consumers",
    ),
    (InvalidTopicError, "the name of the topic is not allowed: set the option topic"),
    ((NotEnoughReplicasError, NotEnoughReplicasAfterAppendError), "too few replicas are in sync: bring brokers back"),
    ((KafkaTimeoutError, RequestTimedOutError, TimeoutError), _NO_ANSWER),
    (KafkaConnectionError, "cannot be reached: is it up, is the address right, and does it speak this protocol?"),
)


class Options(BaseModel, extra="forbid"):
    """What can be set beside the url."""

    topic: str = Field(default="credits", pattern=r"^[A-Za-z0-9._-]{1,249}$")
    """the topic, which is not made by us"""
    idempotence: bool = True
    """whether the producer asks for it; a broker without it needs `false`"""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """with `sasl` in the scheme"""
    compression: Literal["none", "gzip"] = "none"
    """of batches"""
    max_request_bytes: PositiveInt = 1_048_576
    """a larger total is refused"""
    ca: str = ""
    """with `ssl`: the certificate, in PEM, that signed the brokers', instead of the system's"""
    client_certificate: FilePath | None = None
    """the path of a PEM file with our certificate and its key"""
    timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    """for a whole batch"""


class KafkaSink:
    """Appends to a topic. It cannot be queried by key: the consumer, or compaction, keeps the newest."""

    max_batch = MAX_BATCH
    untried = "to connect may make the topic where there is none"

    def __init__(self, name: str, servers: str, settings: dict[str, Any], options: Options) -> None:
        self._label = f"sink {name}: {servers}"
        self._servers = servers
        self._settings = settings
        self._options = options
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        """Connect, and see that the topic is there; a broker that makes topics by itself makes it now."""
        await self._connected()

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Append all, and await the acknowledgement of every replica in sync.

        Refused is a total too large for the client's max_request_bytes or the broker's message.max.bytes.
        """
        if not totals:
            return []
        producer = await self._connected()
        try:
            with loss_named():
                async with asyncio.timeout(self._options.timeout_seconds):
                    outcomes = await asyncio.gather(*(self._append(producer, each) for each in totals))
        except (KafkaError, OSError, TimeoutError) as error:
            # What is still on its way must not arrive after what is sent next: a new producer begins anew.
            await self.close()
            raise self._unavailable(error) from None
        return [outcome for outcome in outcomes if outcome is not None]

    async def held(self, user_id: str) -> int | None:  # noqa: ARG002  the protocol's signature
        """Return None: a topic cannot be queried by key."""
        return None

    async def close(self) -> None:
        """Close the connections, waiting 2 s at most for a broker that does not let go."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    async def _append(self, producer: AIOKafkaProducer, total: Total) -> Rejection | None:
        try:
            await producer.send_and_wait(self._options.topic, total.json(), key=total.user_id.encode())
        except _OF_A_MESSAGE:
            return Rejection(total, "the total, or its batch, is larger than max_request_bytes or the topic allows")
        return None

    async def _connected(self) -> AIOKafkaProducer:
        """Return the producer, a new one after a failure. Trying again after that is the publisher's."""
        if self._producer is not None:
            return self._producer
        options = self._options
        milliseconds = max(1, round(options.timeout_seconds * 1000))
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            client_id="creditsd",
            acks="all",
            enable_idempotence=options.idempotence,
            compression_type=None if options.compression == "none" else options.compression,
            max_request_size=options.max_request_bytes,
            request_timeout_ms=milliseconds,
            **self._settings,
        )
        try:
            with loss_named():
                async with asyncio.timeout(options.timeout_seconds):
                    await producer.start()
                    await producer.partitions_for(options.topic)
        except BaseException as error:
            await _stop(producer)
            if isinstance(error, KafkaError | OSError | TimeoutError):
                raise self._unavailable(error) from None
            raise
        self._producer = producer
        return producer

    def _unavailable(self, error: Exception) -> SinkUnavailable:
        mend = next((mend for kind, mend in _MENDS if isinstance(error, kind)), None)
        # No text of the library's: its errors quote what they are given, and that may be a password.
        return SinkUnavailable(f"{self._label}: topic {self._options.topic}: {mend or type(error).__name__}")


async def _stop(producer: AIOKafkaProducer) -> None:
    """End a producer without waiting for what it still holds: whoever sent it was told, or has given up.

    Its own `stop` would first wait for each batch to be acknowledged or to time out. So its sender goes first:
    a second cancellation, which the time-out is, ends the requests in flight too.
    """
    sender, unsent = producer._sender, producer._message_accumulator  # noqa: SLF001  there is no public way to give up
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(_GIVE_UP_SECONDS):
            await sender.close()
    for batch in [each for batches in unsent._batches.values() for each in batches]:  # noqa: SLF001  the same
        # One that was to be tried again counts as not sent and is awaited by nobody: each would be an error in the log.
        unsent._pending_batches.add(batch)  # noqa: SLF001
        batch._drain_waiter.cancel()  # noqa: SLF001
    unsent.fail_all(KafkaTimeoutError())
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await producer.stop()


def create(name: str, url: str, options: Options) -> KafkaSink:
    """Make the sink for a `kafka:` url, `+sasl`, `+ssl` or both; several brokers by commas. Raises ConfigError."""
    scheme = url.split(":", 1)[0].lower()
    protocol = _PROTOCOLS.get(scheme)
    if protocol is None:
        raise ConfigError(f"sink {name}: {scheme} is not supported: use {', '.join(_PROTOCOLS)}")
    login = "user:password@" if "sasl" in scheme else ""
    try:
        servers, settings = _parsed(url, protocol, options)
    except ValueError:  # its text may quote the url, and with it the password
        raise ConfigError(
            f"sink {name}: the url is not {scheme}://{login}host[:port][,host[:port] …]; "
            "special characters in the password must be percent-encoded, and a login needs kafka+sasl"
        ) from None
    if "SSL" in protocol:
        settings["ssl_context"] = context(f"sink {name}", options.ca, options.client_certificate)
    return KafkaSink(name, servers, settings, options)


def _parsed(url: str, protocol: str, options: Options) -> tuple[str, dict[str, Any]]:
    found = authority(url.partition("://")[2].removesuffix("/"), 9092)
    user, password = found.login
    settings: dict[str, Any] = {"security_protocol": protocol}
    if bool(user and password) != protocol.startswith("SASL"):
        raise ValueError("login without sasl, or sasl without login")
    if user:
        settings |= {
            "sasl_mechanism": options.sasl_mechanism,
            "sasl_plain_username": user,
            "sasl_plain_password": password,
        }
    return listed(found.servers), settings
