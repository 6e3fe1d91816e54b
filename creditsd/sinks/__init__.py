"""The protocol of a sink, and how the scheme of its URL finds the file or folder that implements it."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from pydantic import ValidationError

from creditsd.brokers import schemes as discovery
from creditsd.config.redact import REDACTED, is_secret, redact, redact_url, redact_whole
from creditsd.domain.delivery_attempt import DeliveryAttempt
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.domain.events import Event, Type
from creditsd.domain.owner import Owner
from creditsd.domain.total import Total

if TYPE_CHECKING:
    from types import ModuleType

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from creditsd.config.settings import SinkSettings


@dataclass(frozen=True, slots=True)
class Rejection:
    """One total its receiver refused while others may pass."""

    total: Total
    reason: str
    status: int | None = None
    retry_after_seconds: float | None = None
    accepted: tuple[Event, ...] = ()
    """What was owed beside the total and has arrived all the same."""


class SinkBusy(SinkUnavailable):
    """The receiver takes nothing now; it may say in how many seconds it will.

    The first `through` totals of the batch are settled all the same: they have arrived, but for those in `refused`.
    """

    def __init__(
        self,
        line: str,
        retry_after_seconds: float | None = None,
        *,
        through: int = 0,
        refused: Sequence[Rejection] = (),
    ) -> None:
        super().__init__(line)
        self.retry_after_seconds = retry_after_seconds
        self.through = through
        self.refused = refused


class SinkRefusing(SinkBusy):
    """So many users in a row were refused that it may be everyone: the rest of the batch was not sent."""


class SinkTroubled(SinkRefusing):
    """Nobody's total was taken, and by its own words the fault is the receiver's: whoever it met has no part in it."""


class SinkStopped(SinkBusy):
    """Nobody is to wait for a turn any more: the rest of the batch was not sent."""


class SinkDisabled(SinkUnavailable):
    """The receiver wants nothing any more (410): nothing is tried until a person enables the sink."""


class Sink(Protocol):
    """Somewhere totals are delivered. It translates; waiting, retrying and remembering are the publisher's."""

    @property
    def max_batch(self) -> int:
        """The most totals one `deliver` takes."""

    async def open(self) -> None:
        """Connect. Raises SinkUnavailable; may be called again after that."""

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Hand over at most one total per user, by ascending version; return those refused.

        Repeating is harmless. Raises SinkUnavailable when nothing can be said to have arrived.
        """

    async def held(self, user_id: str) -> int | None:
        """Ask which version the sink holds; None if it holds none or cannot tell.

        Raises SinkUnavailable.
        """

    async def close(self) -> None:
        """Close everything, within a bounded time; may be called twice, and without `open`."""


@runtime_checkable
class Telling(Sink, Protocol):
    """A sink that can be queried for what it holds, many users at once."""

    async def held_many(self, user_ids: Sequence[str]) -> Sequence[int | None]:
        """Ask which version the sink holds for each user, in their order; None where it holds none.

        Raises SinkUnavailable.
        """


@runtime_checkable
class Owned(Sink, Protocol):
    """A sink whose receiver tells who else writes there: two installations would replace each other's totals."""

    def own(self, owner: Owner) -> None:
        """Say who writes there, before `open`, which like `deliver` raises SinkUnavailable where another one does."""


@runtime_checkable
class Choosing(Sink, Protocol):
    """A sink that delivers the events it subscribed to: each that is `owed` of a total, in their order."""

    events: Sequence[Type]


@runtime_checkable
class Paced(Sink, Protocol):
    """A sink that may have totals wait for their turn."""

    @property
    def paced(self) -> bool:
        """Whether it does."""

    def heed(self, overtaken: Callable[[Total], bool]) -> None:
        """Pass over a total of which this is true when its turn comes, as if it had arrived."""

    def hurry(self) -> None:
        """Have nobody wait any more, now and later: `deliver` then raises SinkStopped where somebody would have to."""


@runtime_checkable
class Beginning(Sink, Protocol):
    """A sink that may send totals before anybody waits for the answer."""

    def begin(self, totals: Sequence[Total]) -> bool:
        """Send totals without waiting, where that is possible; return whether they are on their way.

        `deliver` of the same totals then waits for the answer. Where it is called with others, they were sent in vain.
        """


@runtime_checkable
class Traced(Sink, Protocol):
    """A sink whose requests may say what they are traced by."""

    def trace(self, headers: Mapping[str, str]) -> None:
        """Send these headers with every request from now on, in place of those it was given before."""


@runtime_checkable
class Journaling(Sink, Protocol):
    """A sink that remembers what it has sent, until it is asked."""

    def attempts(self) -> Sequence[DeliveryAttempt]:
        """Return what was sent since this was asked last: the newest of it, in order."""


@runtime_checkable
class Forgetting(Sink, Protocol):
    """A sink that can erase what it holds of a user."""

    async def forget(self, user_id: str) -> int:
        """Erase all it holds of a user; return how many things that were. Raises SinkUnavailable."""


@runtime_checkable
class Doubtful(Sink, Protocol):
    """A sink that may work, but not as safely as it could."""

    @property
    def doubts(self) -> Sequence[str]:
        """What could be safer, a line each; never with a secret in it."""


@runtime_checkable
class Untried(Sink, Protocol):
    """A sink whose receiver cannot be tried by `open` without a trace; `untried` says why."""

    untried: str


async def open_for(owner: Owner, sink: Sink) -> None:
    """Open a sink as an installation. Raises SinkUnavailable, also where its receiver shows another one that writes."""
    if isinstance(sink, Owned):
        sink.own(owner)
    await sink.open()


def told_only_of(sink: Sink) -> Sequence[Type]:
    """Return the events a sink asked for where totals are not among them; nothing for one that is told totals."""
    return sink.events if isinstance(sink, Choosing) and "credits.updated" not in sink.events else ()


def schemes() -> list[str]:
    """List the sinks there are: the modules of this package."""
    return discovery.schemes(__path__)


def make(settings: SinkSettings) -> Sink:
    """Build the sink its URL names, not connected yet. Raises ConfigError."""
    module = _module(settings)
    return cast("Sink", module.create(settings.name, settings.url, _options(settings, module)))


def made_of(settings: SinkSettings) -> tuple[object, ...]:
    """Return all that a sink is made of: its settings, and what stands in the files they name. Raises ConfigError."""
    files = [value for _, value in _options(settings, _module(settings)) if isinstance(value, Path)]
    try:
        return (settings, *(hashlib.sha256(each.read_bytes()).digest() for each in files))
    except OSError as error:
        raise ConfigError(f"sink {settings.name}: cannot read {error.filename}: {error.strerror}") from None


def shown(settings: SinkSettings) -> tuple[dict[str, Any], str | None]:
    """Return a sink's settings with secrets masked, and what is wrong with them, if anything.

    An option is shown where the sink knows it and it is no secret: one that nobody knows may be a password by another
    name.
    """
    head = {"name": settings.name, "url": redact_url(settings.url), "mode": settings.mode}
    try:
        module = _module(settings)
    except ConfigError as error:
        return head | dict.fromkeys(settings.options, REDACTED), str(error)
    fields: dict[str, FieldInfo] = module.Options.model_fields
    public = {name for name, field in fields.items() if field.repr and not is_secret(name)}
    options = {
        name: redact(name, value) if name in public else redact_whole(value) for name, value in settings.options.items()
    }
    try:
        _options(settings, module)
    except ConfigError as error:
        return head | options, str(error)
    return head | options, None


def _options(settings: SinkSettings, module: ModuleType) -> BaseModel:
    try:
        return cast("BaseModel", module.Options(**settings.options))
    except ValidationError as invalid:
        raise ConfigError(f"sink {settings.name}: {_first(invalid, module)}") from None
    except OSError as error:  # of a path that no file can have
        raise ConfigError(f"sink {settings.name}: a path cannot be looked at: {error.strerror}") from None


def _module(settings: SinkSettings) -> ModuleType:
    scheme, known = settings.scheme.lower(), schemes()
    found = discovery.implemented_by(scheme, known)
    if found is not None:
        return discovery.load(__name__, found, f"sink {settings.name}")
    if scheme in ("https", "http"):
        mend = f"did you mean webhook+{scheme}://?"
    else:
        near = difflib.get_close_matches(scheme.split("+", 1)[0], known, n=1, cutoff=0.5)
        mend = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    raise ConfigError(f"sink {settings.name}: unknown scheme {scheme!r}: {mend}")


def _first(invalid: ValidationError, module: ModuleType) -> str:
    """Describe the first mistake in one line, never with the value: it may be a secret."""
    mistake = invalid.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        own = module.Options.__annotations__  # before those every sink of its kind of server has
        options: list[str] = sorted(module.Options.model_fields, key=lambda each: each not in own)
        near = [each for each in options if each.startswith(where)]
        near = near or difflib.get_close_matches(where, options, n=1)
        mend = f"did you mean {near[0]}?" if near else f"known: {', '.join(options) or 'none'}"
        return f"unknown option {where!r}: {mend}"
    return f"{where}: {mistake['msg']}" if where else mistake["msg"]
