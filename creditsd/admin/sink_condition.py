"""How a sink is, in words: the one place that judges, for status, explain, `sinks list`, the probes and the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

COUNTED = 100_000  # what waits is counted up to here

State = Literal["current", "behind", "incomplete", "paused", "disabled", "failing", "new", "not configured"]

STANDS_STILL = frozenset({"paused", "disabled", "failing", "not configured"})


@dataclass(frozen=True, slots=True)
class SinkFacts:
    """What is known of a sink; `queue` is None where it is behind and nobody has counted."""

    name: str
    configured: bool = True
    served: bool = False
    """Whether the daemon that leads delivers there, whatever these settings say."""
    led: bool = False
    """Whether a daemon leads, as far as anybody looked."""
    registered: bool = True
    """Whether the database knows it."""
    paused: bool = False
    disabled_reason: str | None = None
    error: str | None = None
    """Why nothing arrives there."""
    refusing: bool = False
    """Whether nothing has arrived of what was sent last."""
    queue: int | None = 0
    refused: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """The state, what is to be said of it in words, and the command that helps; no words where all is well."""

    state: State
    said: str = ""
    hint: str = ""

    def __str__(self) -> str:
        said = self.said or self.state
        return f"{said} ({self.hint})" if self.hint else said


def judge(facts: SinkFacts, *, counted: int = COUNTED) -> Condition:
    """Say how a sink is; what waits was counted up to a limit."""
    state, why, hint = _standing_still(facts) or _going_on(facts)
    elsewhere = "" if facts.configured or not facts.served else "in the daemon's settings alone"
    waiting = "" if state == "behind" and facts.queue is None else _waiting(facts.queue, counted)
    parts = [why, waiting, *_letters(facts, counted), elsewhere]
    if facts.refused + facts.dead and state not in STANDS_STILL:
        hint = f"creditsd deliveries list --sink {facts.name}"
    return Condition(state, "; ".join(part for part in parts if part), hint)


def _standing_still(facts: SinkFacts) -> tuple[State, str, str] | None:
    if not facts.configured and not facts.served:
        why = "not in these settings, so nothing is delivered"
        return "not configured", why, f"creditsd sinks remove {facts.name}"
    if facts.led and facts.registered and not facts.served:
        why = "not in the settings of the daemon that leads, so nothing is delivered"
        return "not configured", why, "reload the daemon with these settings"
    if facts.disabled_reason is not None:
        why = f"disabled: {_bare(facts, facts.disabled_reason)}"
        return "disabled", why, f"creditsd sinks enable {facts.name}"
    if facts.paused:
        return "paused", "paused", f"creditsd sinks resume {facts.name}"
    if facts.error is not None:
        return "failing", f"stands still: {_bare(facts, facts.error)}", f"creditsd sinks test {facts.name}"
    return None


def _going_on(facts: SinkFacts) -> tuple[State, str, str]:
    if not facts.registered:
        return "new", "nothing has been told yet", ""
    if facts.queue is None:
        return "behind", "behind", ""
    if facts.queue > 0:
        return "behind", "", ""
    return "incomplete" if facts.refused + facts.dead else "current", "", ""


def _waiting(queue: int | None, counted: int) -> str:
    if queue is None:
        return "totals wait"
    if not queue:
        return ""
    return f"{_counted(queue, counted)} {'waits' if queue == 1 else 'wait'}"


def _letters(facts: SinkFacts, counted: int) -> list[str]:
    """Say what was refused, and whether that is all that was sent lately."""
    said = []
    if facts.refused:
        what = "refused delivery is" if facts.refused == 1 else "refused deliveries are"
        said.append(f"{_counted(facts.refused, counted)} {what} to be tried again")
    if facts.dead:
        what = "dead letter waits" if facts.dead == 1 else "dead letters wait"
        said.append(f"{_counted(facts.dead, counted)} {what} for you")
    if said and facts.refusing and facts.error is None:
        said.append("nothing that was sent last has arrived")
    return said


def _bare(facts: SinkFacts, reason: str) -> str:
    """Return a reason without the sink's name, which stands beside it."""
    return reason.removeprefix(f"sink {facts.name}: ")


def _counted(number: int, counted: int) -> str:
    return f"{counted} or more" if number >= counted else str(number)
