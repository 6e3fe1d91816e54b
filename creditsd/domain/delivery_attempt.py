"""One request to a sink, and what became of it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class DeliveryAttempt(NamedTuple):
    """What was sent of whom, and the answer; of several users at once it has no `user_id`.

    `named` are those whom it names all the same, in its answer; it is not stored, but says whether it may be.
    """

    at: datetime
    user_id: str | None
    users: int
    webhook_id: str
    status: int | None
    milliseconds: int
    result: str
    answer: str
    named: tuple[str, ...] = ()
