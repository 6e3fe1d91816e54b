"""One connection to NATS, and how it is known that it is lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from nats.aio.client import Client
from nats.js import JetStreamContext


@dataclass(frozen=True, slots=True)
class NatsConnection:
    """One connection, and the future that tells why it is of no use any more."""

    client: Client
    jetstream: JetStreamContext
    lost: asyncio.Future[str]


class NatsClient(Client):
    """The library's client, which tells of a lost connection also while something waits to be sent.

    Its own would try to send that on the lost connection first, fail, and neither close nor call anybody back: whoever
    waits for an answer would wait until the time is out.
    """

    async def _process_op_err(self, e: Exception) -> None:
        self._pending.clear()
        self._pending_data_size = 0
        await super()._process_op_err(e)

    @property
    def offers_tls(self) -> bool:
        """Whether the server has said that it wants TLS; the library tells this nowhere else."""
        return bool(self._server_info.get("tls_required"))
