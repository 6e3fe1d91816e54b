"""Reads the settings anew while a process runs, at SIGHUP, and has applied what takes no restart."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import ValidationError

from creditsd.config import log as logging
from creditsd.config import systemd
from creditsd.config.redact import redact_dsn
from creditsd.config.settings import Settings, explain
from creditsd.config.sources import Origin
from creditsd.domain.errors import ConfigError

log = structlog.get_logger()

Apply = Callable[[Settings], Awaitable[Mapping[str, object]]]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which settings a process changes while it runs, and which it never uses: sections or keys.

    `fixed` are keys in a section that it changes which it does not.
    """

    changes: frozenset[str]
    fixed: frozenset[str]
    unused: frozenset[str]

    def applies(self, key: str) -> bool:
        """Whether a key is changed while the process runs."""
        return key not in self.fixed and not self.changes.isdisjoint((key, key.partition(".")[0]))

    def restarts(self, key: str) -> bool:
        """Whether another value of a key takes a restart."""
        return not self.applies(key) and self.unused.isdisjoint((key, key.partition(".")[0]))


class Reload:
    """One reload after the other; requests that come together are one. Settings that are wrong change nothing."""

    def __init__(
        self,
        running: Settings,
        *,
        whose: str,
        read: Callable[[], Settings],
        scope: Scope,
        apply: Apply,
        said: Callable[[], str | None],
    ) -> None:
        """Let `apply` raise ConfigError before it changes anything; `said` is what systemd was told at our start."""
        self._running = running
        self._whose = whose
        self._read = read
        self._scope = scope
        self._apply = apply
        self._said = said
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have the settings read anew soon; safe to call more than once, and from a signal."""
        self._asked.set()

    async def run(self) -> None:
        """Reload whenever that is asked for."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            supervised = self._said() is not None  # before, READY=1 would say that the start has succeeded
            if supervised:
                systemd.reloading()
            refused = await self._refused()
            if refused:
                hint = "nothing is changed: mend the settings, which `creditsd config` checks too, and reload again"
                log.error(self._event("reload_refused"), reason=refused, hint=hint)
            if supervised:
                systemd.ready(f"{self._said()}{f'; new settings were refused: {refused}' if refused else ''}")

    async def _refused(self) -> str:
        """Reload; return why not where the settings are wrong, else nothing."""
        try:
            read = await asyncio.to_thread(self._read)
            _check_file(self._running.origin, read.origin)
            differing = list(_differing(self._running.model_dump(), read.model_dump()))
            merged = self._merged(read, differing)
            facts = await self._apply(merged)
        except ConfigError as error:
            return redact_dsn(str(error))
        if merged.log != self._running.log:
            logging.configure(merged.log)
        self._running = merged
        applied = [key for key in differing if self._scope.applies(key)]
        log.info(self._event("reloaded"), config=str(read.origin.file or "no file"), settings=applied, **facts)
        restart = [key for key in differing if self._scope.restarts(key)]
        if restart:
            hint = "all else is applied: restart to apply these, or put them back"
            log.warning("settings.restart_needed", settings=restart, hint=hint)
        return ""

    def _merged(self, read: Settings, differing: Sequence[str]) -> Settings:
        """Return what is to be in force: what we run with, and of what was read all that we change.

        Raises ConfigError where the two contradict each other.
        """
        document, news = self._running.model_dump(), read.model_dump()
        for key in differing:
            if self._scope.applies(key):
                _put(document, key, _at(news, key))
        try:
            return Settings.model_validate(document).read_from(read.origin)
        except ValidationError as error:
            raise ConfigError(f"{explain(error)}; what the file says of that takes a restart") from None

    def _event(self, name: str) -> str:
        return f"{self._whose}.{name}"


def hold_back() -> None:
    """Keep a SIGHUP that comes before anybody listens; called first, it would end the process otherwise."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def listen(ask: Callable[[], None], end: Callable[[], None]) -> None:
    """Call `ask` at each SIGHUP, one that was held back included; `end` where it says that our terminal was closed."""
    terminals = [each for each in (0, 1, 2) if os.isatty(each)]

    def heard() -> None:
        if terminals and not any(os.isatty(each) for each in terminals):
            _let_go(terminals)
            end()
        else:
            ask()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, heard)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def _let_go(terminals: Sequence[int]) -> None:
    """Have whatever is still written to a terminal that is gone go nowhere; it would be an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for each in terminals:
        os.dup2(nowhere, each)
    os.close(nowhere)


def _check_file(before: Origin, after: Origin) -> None:
    """Raise ConfigError where nothing is left of the file that settings came from.

    It was moved away, or somebody is writing it just now; that is not a wish for all of its sinks and keys to go.
    """
    if before.file_sets and not after.file_sets:
        found = "is not there any more" if after.file is None else "holds no settings now"
        raise ConfigError(f"{after.file or before.file} {found}: to run without a file takes a restart")


def _differing(before: Mapping[str, Any], after: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield the keys whose values differ, as TOML writes them."""
    for name, value in before.items():
        if isinstance(value, dict):
            yield from _differing(value, after[name], f"{above}{name}.")
        elif value != after[name]:
            yield f"{above}{name}"


def _at(document: Any, key: str) -> Any:
    for name in key.split("."):
        document = document[name]
    return document


def _put(document: Any, key: str, value: Any) -> None:
    *above, last = key.split(".")
    for name in above:
        document = document[name]
    document[last] = value
