"""The settings, checked; the one place that reads the environment.

A key is written three ways: `[http] jwt_secret` in TOML, `CREDITSD_HTTP__JWT_SECRET` in the environment, and
`creditsd.http.jwt_secret` as the name of a systemd credential. In TOML and in the environment the same key
with `_file` behind it names a file that holds the value.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_origin

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator

from creditsd.config import sources
from creditsd.config.event_settings import EventSettings
from creditsd.config.http_settings import HttpSettings
from creditsd.config.redact import is_secret, redact
from creditsd.config.serve_settings import ServeSettings
from creditsd.config.source_settings import SourceSettings
from creditsd.config.tracing_settings import TracingSettings
from creditsd.config.types import (
    DEFAULT_SCHEMA,
    ColumnOrNone,
    Dsn,
    SchemaName,
    Seconds,
    Section,
    SinkName,
    SinkUrl,
)
from creditsd.domain.errors import ConfigError, InputError

DEFAULT_FILE = Path("/etc/creditsd/creditsd.toml")


class SinkSettings(Section):
    """One sink; whatever is neither name, url nor mode is an option, which the sink itself checks."""

    name: SinkName
    url: SinkUrl
    mode: Literal["newest", "every"] = "newest"
    options: Annotated[dict[str, Any], Field(repr=False)] = {}

    @property
    def scheme(self) -> str:
        """What the URL starts with, e.g. `redis+cluster`."""
        return self.url.partition(":")[0]

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        options = data.get("options", {})
        more = {key: value for key, value in data.items() if key not in cls.model_fields}
        named = {key: value for key, value in data.items() if key in ("name", "url", "mode")}
        return named | {"options": {**options, **more} if isinstance(options, Mapping) else options}


class HistorySettings(Section):
    """How long each step of each total is kept; 0 days is not at all."""

    days: Annotated[int, Field(ge=0, le=3650)] = 0
    """how long each step of each total is kept, in days of 24 hours; 0 keeps none"""


class LogSettings(Section):
    """How much is logged, and in which form; `auto` is console on a terminal and json elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """`debug` tells of every batch; `warning` of what is tried again"""
    format: Literal["auto", "console", "json"] = "auto"
    """`console` on a terminal and `json` elsewhere, or one of the two"""


with warnings.catch_warnings():
    warnings.filterwarnings("ignore", 'Field name "schema"')  # pydantic's own method of that name is deprecated

    class InstallationSettings(Section):
        """Which of the installations in the database: the schema all of it stands in."""

        schema: SchemaName = DEFAULT_SCHEMA  # type: ignore[assignment]
        """the name of the installation, and of the schema all of it stands in:
        [several](deploy.md#several-kinds-several-tables) may live in one database. Small letters, digits and
        `_`, at most 45, no word of SQL"""


class DatabaseSettings(InstallationSettings):
    """Which database, as whom, by which way, and how patient with who holds it."""

    dsn: Dsn = ""
    """where PostgreSQL is: a libpq string or URL; empty means libpq's own variables and service file"""
    listen_dsn: Dsn = ""
    """a direct connection where `dsn` goes through a transaction pooler, for [what needs
    one](deploy.md#through-a-pooler): leading, the doorbell, `install` …; empty: the same as `dsn`"""
    role: ColumnOrNone = ""
    """the restricted role that `install` grants what the daemon needs; also `install --role`"""
    reader: ColumnOrNone = ""
    """the role of signed-in users (`authenticated`), which `install` lets read their own balance and history; also
    `install --reader`"""
    lock_timeout_seconds: Seconds = 0.2
    """how long `install` may hold up the application with one try for a lock"""
    lock_wait_seconds: Seconds = 60.0
    """how long it goes on trying; also how long `install` waits for another one, and `forget` for what it erases"""

    @property
    def direct_dsn(self) -> str:
        """The way past a pooler: for what needs a session of its own."""
        return self.listen_dsn or self.dsn

    @property
    def shared(self) -> bool:
        """Whether `dsn` is said to lead through a transaction pooler: there is another way past it."""
        return bool(self.listen_dsn)


class PaceSettings(Section):
    """When and how much at once, and how long an end may take."""

    wakeup: Literal["doorbell", "poll"] = "doorbell"
    """`doorbell`: writers ring while the daemon sleeps. `poll`: they never do, `PREPARE TRANSACTION` stays
    possible, and an idle database [may sleep](deploy.md#managed-servers) between two polls"""
    poll_seconds: Seconds = 0.25
    """how often to look with `wakeup = "poll"`, when nothing else looks more often either, or while the bell does not
    come through"""
    busy_poll_seconds: Seconds = 0.001
    """how often to look at least, while changes come too fast for ringing"""
    keep_warm_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 0.0
    """for how long after a change to look every 3 ms, beside the bell: the next total comes sooner, for
    [processor time](performance.md#kept-warm); 0: not at all"""
    max_batch_users: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """the most changes, or users, that one step recomputes"""
    sweep_hours: Annotated[float, Field(ge=0, le=8760, allow_inf_nan=False)] = 1.0
    """the pause between two [sweeps](operations.md#the-sweep), in hours; 0: none"""
    shutdown_seconds: Seconds = 10.0
    """how long an ending daemon lets what is stored arrive"""

    @property
    def quiet_seconds(self) -> float:
        """For how long an idle daemon asks the database nothing at all; 0 where it does not poll."""
        return self.poll_seconds if self.wakeup == "poll" else 0.0


class RuleSettings(Section):
    """What a total says beside its sum, and what becomes of a plan that is empty."""

    can_buy: Literal["no_active_subscription", "no_credits", "always"] = "no_active_subscription"
    """when `canBuy` is true, [see below](#the-rules-behind-a-total)"""
    expire_empty: Literal["on", "dry_run", "off"] = "on"
    """whether used-up packs get the expired status, [see below](#the-rules-behind-a-total)"""
    expire_empty_after_seconds: Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)] = 0.0
    """how long a used-up pack stands first, without any change of its user's; packs that wait already keep the pause of
    before, until `creditsd backfill`"""


class Settings(RuleSettings, PaceSettings, DatabaseSettings):
    """Every setting, checked. Strings are plain, and the secret ones are left out of the repr."""

    source: SourceSettings = SourceSettings()
    sinks: list[SinkSettings] = []
    """whom to tell: `name`, `url`, `mode`, and the sink's own [options](sinks.md); the name defaults to the URL's
    scheme"""
    history: HistorySettings = HistorySettings()
    events: EventSettings = EventSettings()
    http: HttpSettings = HttpSettings()
    serve: ServeSettings = ServeSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    _origin: sources.Origin = PrivateAttr(default=sources.Origin())

    @property
    def origin(self) -> sources.Origin:
        """Where they were read from."""
        return self._origin

    def read_from(self, origin: sources.Origin) -> Settings:
        """Note where they were read from."""
        self._origin = origin
        return self

    @property
    def sink_names(self) -> list[str]:
        """What the configured sinks are called, in their order."""
        return [each.name for each in self.sinks]

    def sink(self, name: str) -> SinkSettings:
        """Return the sink of this name. Raises InputError, which names the nearest there is."""
        found = next((each for each in self.sinks if each.name == name), None)
        if found is None:
            raise InputError.unknown("configured sink is called", name, self.sink_names)
        return found

    @property
    def policy(self) -> dict[str, str]:
        """What decides about totals beside the table, as recompute takes it, and how long their steps are kept."""
        return {
            "can_buy": self.can_buy,
            "expire_empty": self.expire_empty,
            "empty_seconds": str(self.expire_empty_after_seconds),
            "events": self.events.policy,
            "history_days": str(self.history.days),
        }

    @model_validator(mode="after")
    def _sinks_have_their_own_names(self) -> Settings:
        for name in self.sink_names:
            if self.sink_names.count(name) > 1:
                raise ValueError(f"two sinks are called {name!r}: give one of them another name")
        return self

    @model_validator(mode="after")
    def _every_step_is_kept_somewhere(self) -> Settings:
        every = next((sink.name for sink in self.sinks if sink.mode == "every"), None)
        if every is not None and not self.history.days:
            raise ValueError(
                f"sink {every!r} is to be told every step, but none is kept: set [history] days to more than its "
                'longest outage, e.g. 7, or its mode to "newest"'
            )
        return self


def redacted(settings: Settings) -> dict[str, Any]:
    """Return the settings as they would be written, for people to see, every secret redacted: all but the sinks."""
    shown: dict[str, Any] = redact("settings", settings.model_dump(exclude={"sinks"}, exclude_none=True))
    return shown


def load(config: Path | None = None) -> Settings:
    """Read and check all settings; every ConfigError is one line that names the key and what is allowed.

    The file is `config`, else what CREDITSD_CONFIG names, else DEFAULT_FILE if it exists.
    """
    environ = dict(os.environ)
    named = config or (Path(environ["CREDITSD_CONFIG"]) if environ.get("CREDITSD_CONFIG") else None)
    file = named or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    gathered, origin = sources.gather(_known(), file, environ)
    try:
        return Settings.model_validate(_nested(gathered)).read_from(origin)
    except ValidationError as error:
        raise ConfigError(explain(error, gathered)) from None


class Supervision(NamedTuple):
    """What systemd told this process: where to report, and how often it wants to hear that we live."""

    socket: str  # empty: nobody supervises
    watchdog_seconds: float | None


def supervision() -> Supervision:
    """Return what systemd's own variables say; a watchdog that is meant for another process is none."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    is_ours = usec.isdecimal() and int(usec) > 0 and pid in ("", str(os.getpid()))
    return Supervision(os.environ.get("NOTIFY_SOCKET", ""), int(usec) / 1_000_000 if is_ours else None)


def journal_stream() -> str:
    """Return what systemd says of journald's socket, `device:inode`, where it gave us that to write our log to."""
    return os.environ.get("JOURNAL_STREAM", "")


@cache
def _known() -> sources.Known:
    leaves = dict(_leaves(Settings))
    lists = frozenset(key for key, annotation in leaves.items() if get_origin(annotation) is list)
    return sources.Known(frozenset(leaves), lists)


def _leaves(section: type[BaseModel], above: sources.Key = ()) -> Iterator[tuple[sources.Key, Any]]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, (*above, name))
        else:
            yield (*above, name), field.annotation


def _nested(gathered: sources.Gathered) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, origin in gathered.items():
        table = document
        for section in key[:-1]:
            table = table.setdefault(section, {})
        table[key[-1]] = origin.value
    return document


def explain(error: ValidationError, gathered: sources.Gathered | None = None) -> str:
    """Say in one line what is wrong: the key as its author wrote it, the value, what is allowed."""
    lines = [_explain_one(dict(item), gathered or {}) for item in error.errors(include_url=False)]
    return "; ".join(dict.fromkeys(lines))


def _explain_one(item: dict[str, Any], gathered: sources.Gathered) -> str:
    location = tuple(str(part) for part in item["loc"])
    what = str(item["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    if item["type"] == "value_error" and not isinstance(item["input"], str):
        return what  # contradicts another key, and says which
    key = next((key for key in gathered if location[: len(key)] == key), None)
    origin = gathered[key] if key else sources.SourcedValue(None, sources.in_toml(location))
    label = ".".join((origin.label, *_readable(location[len(key or location) :])))
    if origin.secret or not _NEVER_QUOTED.isdisjoint(location) or any(map(is_secret, location)):
        return f"{label}: {what}"
    return f"{label} = {_shown(item['input'])}: {what}"


# A broken DSN or URL cannot be redacted: nobody knows which part of it is the password; nor what options may hold, or
# which misspelt word of a server's is its key.
_NEVER_QUOTED = frozenset({"dsn", "listen_dsn", "url", "feed", "options", "servers"})


def _readable(location: tuple[str, ...]) -> Iterator[str]:
    """Count the entries of a list from one, as people do."""
    return (str(int(part) + 1) if part.isdigit() else part for part in location)


def _shown(value: Any) -> str:
    try:
        text = repr(redact("value", value))
    except (RecursionError, ValueError):  # Python writes no number of more than 4300 digits
        return "what stands there"
    return text if len(text) <= 80 else f"{text[:79]}…"
