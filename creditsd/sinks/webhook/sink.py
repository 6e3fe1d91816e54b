"""Posts a batch of totals to one endpoint, many users at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from creditsd.domain.delivery_attempt import DeliveryAttempt
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.events import Event
from creditsd.domain.total import Total
from creditsd.sinks import Rejection, SinkBusy, SinkDisabled, SinkRefusing, SinkStopped, SinkTroubled
from creditsd.sinks.webhook import signing
from creditsd.sinks.webhook.answers import ARRIVED, NO_TURN, Outcome
from creditsd.sinks.webhook.attempt import Attempt
from creditsd.sinks.webhook.batch import BatchWriter
from creditsd.sinks.webhook.endpoint import Endpoint
from creditsd.sinks.webhook.journal import Journal
from creditsd.sinks.webhook.message import Message, MessageWriter, Parcel
from creditsd.sinks.webhook.options import Options
from creditsd.sinks.webhook.pace import Pace
from creditsd.sinks.webhook.rate import Rate
from creditsd.sinks.webhook.signing import Signer

log = structlog.get_logger()

MAX_BATCH = 1024


class WebhookSink:
    """Delivers to one endpoint. A total may arrive twice or late: `version` and `webhook-id` tell."""

    untried = "nothing connects before the first delivery"

    def __init__(self, name: str, endpoint: Endpoint, signers: Sequence[Signer], options: Options) -> None:
        self._name = name
        self._endpoint = endpoint
        self._label = f"sink {name}: {endpoint.label}"
        self._signers = signers
        self._batches = None if options.batch is None else BatchWriter(name, options.batch, signers)
        self._writer = self._batches or MessageWriter(name, frozenset(options.events), signers)
        self._pace = Pace(options.concurrency)
        self._overtaken: Callable[[Total], bool] = lambda _: False
        self._attempt: Attempt | None = None
        self._rate = None if options.per_second is None else Rate(options.per_second)
        self._journal = Journal(endpoint.secrets) if options.log_attempts else None
        self.events = options.events
        self.disable_after_seconds = options.disable_after_seconds
        self.retry_delays_seconds = options.schedule

    @property
    def doubts(self) -> Sequence[str]:
        """Say whether a secret is shorter than the specification asks for."""
        short = f"a secret is short enough to be guessed: let it be {signing.SECRET_BYTES} random bytes or more"
        return [short] if any(each.weak for each in self._signers) else []

    @property
    def max_batch(self) -> int:
        """The most totals one `deliver` takes."""
        if self._rate is None:
            return MAX_BATCH
        users_each = 1 if self._batches is None else self._batches.together
        return min(MAX_BATCH, self._rate.requests_in_a_batch * users_each)

    @property
    def paced(self) -> bool:
        """Whether requests have to wait for their turn."""
        return self._rate is not None

    def heed(self, overtaken: Callable[[Total], bool]) -> None:
        """Pass over a total of which this is true when its turn comes, as if it had arrived."""
        self._overtaken = overtaken

    def hurry(self) -> None:
        """Have nobody wait for a turn any more, now and later."""
        if self._rate is not None:
            self._rate.stop()
            if self._attempt is not None:
                self._attempt.ended = True

    def trace(self, headers: Mapping[str, str]) -> None:
        """Send these headers with every request from now on."""
        self._endpoint.trace(headers)

    async def open(self) -> None:
        """Make the connection pool; nothing connects before the first delivery."""
        await self._endpoint.open()
        for each in self._signers:
            if each.public_key is not None:
                log.info("webhook.signed_by", sink=self._name, public_key=each.public_key)

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """POST what is owed of each total: of many users at once, of one user one event after the other.

        The first answer that asks for patience ends the batch, and so do refusals of many users in a row: raises
        SinkBusy, SinkRefusing or SinkTroubled, which say how many of it are through; so does SinkStopped.
        Raises SinkDisabled when the endpoint is gone for good.
        """
        if not self._endpoint.is_open:
            raise SinkUnavailable(f"{self._label}: is not open")
        at_once = self._pace.requests_at_once(self._writer.requests(totals))
        patience = self._pace.patience(at_once)
        attempt = Attempt(iter(totals), self._writer, patience, self._overtaken, self._pace.troubled)
        self._attempt = attempt
        # The tasks end with this call, so the daemon's own group still is the only thing that lasts.
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._post_in_turn(attempt))
        self._pace.learn(attempt)
        if self._batches is not None and attempt.answered:
            self._batches.learn(attempt.outcomes)
        return self._judge(totals, attempt)

    def attempts(self) -> Sequence[DeliveryAttempt]:
        """Return what was sent since this was asked last: the newest of it, in order."""
        return [] if self._journal is None else self._journal.take()

    async def held(self, user_id: str) -> int | None:  # noqa: ARG002  the protocol's signature
        """Return None: an endpoint cannot be queried."""
        return None

    async def close(self) -> None:
        """Close the connections, waiting 2 s at most."""
        await self._endpoint.close()

    async def _post_in_turn(self, attempt: Attempt) -> None:
        """POST one user after the other, beside others that do the same."""
        while (parcel := await self._next(attempt)) is not None:
            await self._post_parcel(parcel, attempt)

    async def _next(self, attempt: Attempt) -> Parcel | None:
        """Take what is next, when it is its turn."""
        if self._rate is None:
            return attempt.next()
        async with self._rate.in_line():
            if attempt.more() and not await self._rate.free():
                attempt.ended = True
            return attempt.next()

    async def _post_parcel(self, parcel: Parcel, attempt: Attempt) -> None:
        """POST a parcel; of many users that are refused each half by itself, until it is known whose fault it is."""
        outcome = await self._post_all(parcel, attempt)
        if self._batches is None or len(parcel.totals) == 1 or outcome.kind not in ("refused", "troubled"):
            attempt.note(parcel, outcome)
            return
        for half in self._batches.halves(parcel):
            if attempt.over:
                attempt.note(half, NO_TURN if attempt.ended else outcome)
            else:
                attempt.asked += 1
                await self._post_parcel(half, attempt)

    async def _post_all(self, parcel: Parcel, attempt: Attempt) -> Outcome:
        """POST messages until one does not arrive, or nothing more is to be sent."""
        accepted: list[Event] = []
        for each in parcel.messages:
            if accepted and attempt.failed is not None and attempt.over:
                outcome = attempt.failed._replace(kind="unavailable")
            else:
                outcome = await self._post(each, parcel)
            if outcome.kind != "arrived":
                return outcome._replace(accepted=tuple(accepted)) if accepted else outcome
            if each.event is not None:
                accepted.append(each.event)
        return ARRIVED

    async def _post(self, message: Message, parcel: Parcel) -> Outcome:
        if self._rate is not None and not await self._rate.turn():
            return NO_TURN
        began = time.monotonic()
        outcome = await self._endpoint.post(self._writer.fresh(message))
        if self._journal is not None:
            self._journal.note(parcel, message, outcome, time.monotonic() - began)
        return outcome

    def _judge(self, totals: Sequence[Total], attempt: Attempt) -> Sequence[Rejection]:
        """Return who was refused. Raises SinkBusy or SinkDisabled where it is the endpoint that took nothing more."""
        through, failed = attempt.through(totals), attempt.failed
        refused = attempt.rejections(totals[:through])
        if failed is None:
            if attempt.refusing and through == attempt.begun:
                said = f"{self._label}: refuses everyone by now, e.g. {refused[-1].reason}"
                raise SinkRefusing(said, through=through, refused=refused)
            if through < len(totals):
                raise SinkStopped(f"{self._label}: not sent before the end", through=through, refused=refused)
            return refused
        if failed.kind == "gone":
            raise SinkDisabled(f"{self._label}: {failed.reason}")
        pause = attempt.pause_seconds()
        if not attempt.answered and failed.kind == "troubled":
            raise SinkTroubled(f"{self._label}: {failed.reason}", pause, through=through, refused=refused)
        if not attempt.answered:
            raise SinkBusy(f"{self._label}: {failed.reason}", pause)
        if through == len(totals) and pause is None:
            return refused
        raise SinkBusy(f"{self._label}: {failed.reason}", pause, through=through, refused=refused)
