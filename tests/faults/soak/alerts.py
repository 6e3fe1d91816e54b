"""What a webhook was told beside totals, and what the rules make of the totals that were told."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.faults.soak.crossings import LEVELS, Standing, Told, after, facts, first, microseconds, owed


class Alert(NamedTuple):
    """One event as it came. It says when it happened; `versions` are those that can have brought it by that."""

    user: str
    name: str
    webhook_id: str
    versions: frozenset[int]
    facts: Mapping[str, Any]


@dataclass(slots=True)
class Annals:
    """Every total that a webhook was told, by its version, each with what came before it.

    A server that crashes takes totals back: then two may follow the same one. `disputed` is what was told otherwise
    than the rules have it, or two webhooks have it differently.
    """

    totals: dict[int, Told] = field(default_factory=dict)
    disputed: list[str] = field(default_factory=list)
    _standings: dict[int, Standing] = field(default_factory=dict)

    def hear(self, document: Mapping[str, Any]) -> None:
        """Take note of the total that a webhook's request carries."""
        if document["version"] not in self.totals:
            before = document["previous"]
            follows = None if before is None else before["version"]
            self.totals[document["version"]] = Told(document["user_id"], document["version"], follows, document)

    def known(self, alert: Alert) -> set[int]:
        """Return which totals of its user can have brought an event: at one moment others get versions, too."""
        known = alert.versions & self.totals.keys()
        return {version for version in known if self.totals[version].user == alert.user}

    def previous(self, version: int) -> Mapping[str, Any] | None:
        """Return the total before one, as it was told, or where nobody was told it as the one after it says it was."""
        told = self.totals[version]
        if told.follows is None:
            return None
        before = self.totals.get(told.follows)
        found: Mapping[str, Any] = told.document["previous"] if before is None else before.document
        return found

    def line(self, version: int) -> Iterator[int]:
        """Yield a version and those before it that it follows, as far back as they were told."""
        following: int | None = version
        while following in self.totals:
            yield following
            following = self.totals[following].follows

    def standing(self, version: int) -> Standing:
        """Return where a total that was told leaves its user."""
        unknown = []
        following: int | None = version
        while following in self.totals and following not in self._standings:
            unknown.append(following)
            following = self.totals[following].follows
        for each in reversed(unknown):
            self._standings[each] = self._after(self.totals[each])
        return self._standings[version]

    def _after(self, told: Told) -> Standing:
        previous = self.previous(told.version)
        if previous is None:
            found = first(told)
        else:
            unheard = Standing(previous.get("level"), {}, frozenset())
            found = after(self._standings.get(previous["version"], unheard), previous, told)
        if told.document.get("level", "nothing") != found.level:
            said = told.document.get("level", "nothing")
            self.disputed.append(f"{told.user} is at level {said} by {told.version}, by the rules at {found.level}")
        return found


@dataclass(slots=True)
class Alerts:
    """The events one webhook was told. `every`: of each step it is told, else of what still stands."""

    annals: Annals
    every: bool
    heard: list[Alert] = field(default_factory=list)
    _told: dict[tuple[str, str, int], str] = field(default_factory=dict)
    _steps: list[int] = field(default_factory=list)

    def hear(self, webhook_id: str, name: str, timestamp: str, document: Mapping[str, Any]) -> None:
        """Take note of one request."""
        self.annals.hear(document)
        if self.every:
            self._steps.append(document["version"])
        if name == "credits.updated":
            return
        moment = microseconds(timestamp)
        versions = {moment} | ({document["version"]} if timestamp == document["updated_at"] else set())
        more = {key: document[key] for key in ("threshold", "plan") if key in document}
        self.heard.append(Alert(document["user_id"], name, webhook_id, frozenset(versions), more))

    def untrue(self, *, crashed: bool) -> Iterator[str]:
        """Name what was told since the last time and did not happen, or happened otherwise.

        `crashed`: the server may have taken back what nobody else was told.
        """
        for alert in self.heard:
            known = self.annals.known(alert)
            brought = {each for each in known if alert.name in self.annals.standing(each).brought}
            if not brought:
                if known or not crashed:
                    yield f"{alert.user} was told {alert.name} of {set(alert.versions)}, which did not happen"
                continue
            (version,) = list(brought)[:1]
            yield from self._is_told_once(alert, version)
            expected = facts(alert.name, self.annals.previous(version) or {})
            if alert.facts != expected:
                yield f"{alert.user} was told {alert.name} of {version} with {alert.facts}, and not {expected}"

    def missing(self, newest: Mapping[str, int], *, crashed: bool = False) -> list[str]:
        """Name what should have been told by now; `newest` are the versions that users are at.

        `crashed`: the server may have taken back a total, and what it brought, that had been told already.
        """
        self._take()
        lasting = {each for version in newest.values() for each in self.annals.line(version)} if crashed else None
        return [
            f"{self.annals.totals[version].user} was not told {name} of {brought}"
            for version, names in self._due(newest.values())
            for name, brought in names.items()
            if lasting is None or version in lasting
            if (self.annals.totals[version].user, name, brought) not in self._told
        ]

    def begin_anew(self) -> None:
        """Forget what was judged; under which id it was told stays known."""
        self.heard.clear()
        self._steps.clear()

    def _due(self, newest: Collection[int]) -> Iterator[tuple[int, dict[str, int]]]:
        if self.every:
            for step in dict.fromkeys(self._steps):
                yield step, dict.fromkeys(self.annals.standing(step).brought, step)
        else:
            for version in newest:
                if version in self.annals.totals:
                    yield version, self._still_owed(version)

    def _still_owed(self, version: int) -> dict[str, int]:
        """Return what stands and is owed: nobody is told a level again that a newer one, told by now, came after."""
        user = self.annals.totals[version].user
        told = max((at for whose, name, at in self._told if whose == user and name in LEVELS), default=0)
        standing = owed(self.annals.standing(version))
        return {name: brought for name, brought in standing.items() if name not in LEVELS or brought >= told}

    def _take(self) -> None:
        for alert in self.heard:
            for version in self.annals.known(alert):
                if alert.name in self.annals.standing(version).brought:
                    self._told.setdefault((alert.user, alert.name, version), alert.webhook_id)

    def _is_told_once(self, alert: Alert, version: int) -> Iterator[str]:
        known = self._told.setdefault((alert.user, alert.name, version), alert.webhook_id)
        if known != alert.webhook_id:
            yield f"{alert.user} was told {alert.name} of {version} as {alert.webhook_id} and as {known}"
