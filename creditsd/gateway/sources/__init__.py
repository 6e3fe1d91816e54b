"""The protocol of a gateway's source, and how the scheme of `serve.feed` finds the file that implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from pydantic import ValidationError

from creditsd.brokers import schemes as discovery
from creditsd.domain.errors import ConfigError
from creditsd.domain.total import encode

if TYPE_CHECKING:
    from types import ModuleType

    from creditsd.config.serve_settings import ServeSettings

NAME = "serve.feed"
"""What it is called where something is wrong with it."""


class BrokerSource(Protocol):
    """A broker that a sink publishes to, subscribed by user. It translates; waiting and retrying are the upstream's.

    Every method but `close` raises SinkUnavailable; after that `open` begins anew, with nothing subscribed.
    """

    @property
    def max_batch(self) -> int:
        """The most users one call takes."""

    async def open(self) -> None:
        """Connect, and close what was there before."""

    async def subscribe(self, user_ids: Sequence[str]) -> None:
        """Return once every total that is stored from now on for these users will be heard. Takes nobody twice."""

    async def unsubscribe(self, user_ids: Sequence[str]) -> None:
        """Unsubscribe from these users."""

    async def heard(self) -> Sequence[tuple[str, bytes]]:
        """Wait for the next totals, as (user, JSON); of one user the newest may stand for all.

        Nothing for a while is no error, a server that answers no more is. Must be awaited for `subscribe` to return.
        """

    async def newest(self, user_ids: Sequence[str]) -> Sequence[bytes | None]:
        """Read what is stored for each user, in their order; None where there is nothing."""

    async def close(self) -> None:
        """Close everything, within a bounded time; may be called twice, and without `open`."""


def version_of(user_id: str, document: bytes) -> int | None:
    """Return the version of a user's total; None for what is none, or another user's, or would not fit into one line.

    Totals begin with these two keys in this order, which costs less than reading all of it.
    """
    begins = b'{"user_id":' + encode(user_id) + b',"version":'
    if not document.startswith(begins) or b"\n" in document or b"\r" in document:
        return None
    digits = document[len(begins) : len(begins) + 20].partition(b",")[0]
    return int(digits) if digits.isdigit() else None


def schemes() -> list[str]:
    """List the sources there are: the modules of this package."""
    return discovery.schemes(__path__)


def make(settings: ServeSettings) -> BrokerSource:
    """Build the source its URL names, not connected yet. Raises ConfigError."""
    if not settings.feed:
        raise ConfigError(
            "creditsd serve has nothing to serve: set CREDITSD_SERVE__FEED to the url of the Redis or NATS that a sink "
            "of `creditsd run` publishes to, e.g. redis://localhost:6379/0"
        )
    module = _module(settings.feed.split(":", 1)[0].lower())
    given = settings.given()
    if foreign := sorted(given.keys() - module.Options.model_fields.keys()):
        raise ConfigError(f"serve.{foreign[0]} means nothing to this feed: leave it out, or give another serve.feed")
    try:
        options = module.Options(**given)
    except ValidationError as invalid:
        mistake = invalid.errors(include_url=False, include_input=False)[0]  # the input may be a secret
        where = ".".join(("serve", *map(str, mistake["loc"])))
        raise ConfigError(f"{where}: {mistake['msg'].removeprefix('Value error, ')}") from None
    return cast("BrokerSource", module.create(settings.feed, options))


def _module(scheme: str) -> ModuleType:
    found = discovery.implemented_by(scheme, schemes())
    if found is None:
        raise ConfigError(f"{NAME}: {scheme} is no feed: use one of {', '.join(schemes())}, where a sink publishes to")
    return discovery.load(__name__, found, NAME)
