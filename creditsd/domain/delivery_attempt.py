"""One request to a sink, and what became of it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class DeliveryAttempt(NamedTuple):
    """What was sent of whom, and the answer; of several users at once it names none."""

    at: datetime
    user_id: str | None
    users: int
    webhook_id: str
    status: int | None
    milliseconds: int
    result: str
    answer: str
