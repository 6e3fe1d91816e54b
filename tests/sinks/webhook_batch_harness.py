from __future__ import annotations

from typing import Any

from creditsd.sinks import Sink
from tests.sinks.webhook_harness import Receiver, WebhookHarness


class WebhookBatchHarness(WebhookHarness):
    """A receiver of batches that keeps, of each user, the higher version of what it could verify."""

    def make(self) -> Sink:
        return self._receiver.make(batch=50)

    async def received(self, user_id: str) -> dict[str, Any] | None:
        found = [each for each in listed(self._receiver) if each["user_id"] == user_id]
        newest = max(found, key=lambda data: int(data["version"]), default=None)
        return newest and {name: value for name, value in newest.items() if name not in ("previous", "cause")}


def listed(receiver: Receiver) -> list[dict[str, Any]]:
    """Return what came in batches, in its order."""
    for delivery in receiver.deliveries:
        delivery.verify()
        assert delivery.document["type"] == "credits.batch"
    return [each for delivery in receiver.deliveries for each in delivery.data["totals"]]


def build() -> WebhookBatchHarness:
    return WebhookBatchHarness()
