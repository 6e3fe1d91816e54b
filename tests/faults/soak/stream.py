"""A reader of the NATS stream that has kept every step."""

from __future__ import annotations

from dataclasses import dataclass

import nats
import orjson
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from tests.brokers import Nats
from tests.faults.soak.heard import Heard

STREAM = "CREDITS"


@dataclass(slots=True)
class Stream:
    """Reads on from where it was, on a connection of its own each time."""

    server: Nats
    heard: Heard
    read: int = 0

    async def catch_up(self) -> None:
        """Hear whatever is in the stream and was not heard. Raises what the client does where it cannot be reached."""
        client = await nats.connect(
            f"127.0.0.1:{self.server.port}", allow_reconnect=False, connect_timeout=5, error_cb=_silently
        )
        try:
            jetstream = client.jetstream(timeout=5)
            try:
                newest = (await jetstream.stream_info(STREAM)).state.last_seq
            except NotFoundError:
                return
            if newest <= self.read:
                return
            config = ConsumerConfig(
                ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self.read + 1
            )
            subscription = await jetstream.subscribe("credits.*", stream=STREAM, manual_ack=True, config=config)
            while self.read < newest:
                message = await subscription.next_msg(timeout=5)
                self.heard.hear(orjson.loads(message.data))
                self.read = message.metadata.sequence.stream
        finally:
            await client.close()


async def _silently(_: Exception) -> None:
    """What is lost in the middle of a read is read the next time."""
