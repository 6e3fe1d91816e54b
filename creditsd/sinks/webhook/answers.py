"""Maps an endpoint's answer to an outcome: arrived, refused, unavailable, or gone for good."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal, NamedTuple

import aiohttp

from creditsd.brokers import http
from creditsd.config.printable import REASON_LENGTH
from creditsd.domain.events import Event

# The receiver, or what stands before it, says that it is not the delivery's fault.
TRY_LATER = frozenset({429, 502, 503, 504})


Kind = Literal["arrived", "refused", "unavailable", "troubled", "gone", "unsent"]


class Outcome(NamedTuple):
    """How one attempt ended.

    `arrived`, `refused` (its fault), `unavailable` (the receiver's), `troubled` (either's: the receiver broke over
    it), or `gone` for good. `unsent`, there was none.
    """

    kind: Kind
    reason: str = ""
    status: int | None = None
    retry_after_seconds: float | None = None
    accepted: tuple[Event, ...] = ()
    body: bytes = b""
    """What was read of the answer."""


ARRIVED = Outcome("arrived")
NO_TURN = Outcome("unsent", "ended before its turn")
NO_ANSWER = Outcome("unavailable", "no answer in time")


async def judged(response: aiohttp.ClientResponse, secrets: Sequence[str]) -> Outcome:
    """Judge by the status alone; a little of the body is taken for the reason."""
    status, body = response.status, await http.read_little(response)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Outcome("arrived", status=status, body=body)
    pause = http.retry_after_seconds(response.headers.get("Retry-After"))
    return Outcome(_kind(status), http.said(status, body, secrets)[:REASON_LENGTH], status, pause, body=body)


def _kind(status: int) -> Kind:
    if status == HTTPStatus.GONE:
        return "gone"
    if status in TRY_LATER:
        return "unavailable"
    # Of 5xx, those that no standard knows too: Cloudflare's 520 to 527 and 530 are of what stands behind it.
    return "troubled" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "refused"
