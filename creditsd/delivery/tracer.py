"""What a delivery is traced by; who traces nothing has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from creditsd.domain.total import Total


class DeliverySpan(Protocol):
    """One delivery, while it is under way."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What tells a receiver of HTTP which span it is part of."""

    def settled(self, refused: int, arrived: Sequence[Total]) -> None:
        """Note how many were refused, and what has arrived for the first time, in order."""


class Tracer(Protocol):
    """Traces the deliveries of every sink."""

    def delivery(self, sink: str, totals: Sequence[Total]) -> AbstractContextManager[DeliverySpan]:
        """Trace the delivery of these totals, in ascending order of version, while the block lasts."""
