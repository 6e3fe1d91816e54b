"""What the one contract suite needs to know of a sink: a `*_harness.py` per sink, found by its name."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol, cast

from creditsd.domain.total import Total
from creditsd.sinks import Sink

VERSION = 1_763_800_000_000_000


class Harness(Protocol):
    """A sink together with the real receiver at its other end."""

    secrets: list[str]
    """What must not be in any error."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    def make(self) -> Sink: ...

    async def received(self, user_id: str) -> dict[str, Any] | None:
        """The total a consumer of this sink is left with if it keeps the documented rule; None: none came.

        Redis keeps the rule itself. Behind webhook and stdout the consumer does: the higher version counts.
        """

    async def go_away(self) -> None: ...
    async def come_back(self) -> None: ...

    async def hang(self) -> None:
        """Stay connected, and take nothing more."""


def find() -> list[str]:
    return sorted(path.stem.removesuffix("_harness") for path in Path(__file__).parent.glob("*_harness.py"))


def build(scheme: str) -> Harness:
    return cast("Harness", importlib.import_module(f"tests.sinks.{scheme}_harness").build())


def total(user_id: str = "u1", version: int = VERSION, **changed: Any) -> Total:
    plain = Total(
        user_id=user_id,
        version=version,
        updated_at=datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=UTC),
        credits=Decimal(120),
        membership_status="active",
        plan_type="subscription",
        can_buy=False,
        has_ever_had_subscription=True,
        subscription_id="sub_1",
        membership="Pro",
        expires_at=datetime(2026, 12, 22, tzinfo=UTC),
    )
    return plain._replace(**changed)
