"""How long a publisher waits for what, and how much it takes on at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

# The schedule Standard Webhooks recommends: the pause after each failed try, the first of which was at once.
RETRY_DELAYS_SECONDS = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)


@dataclass(frozen=True, slots=True)
class Timings:
    """Times of a publisher, in seconds.

    Pauses grow slowly, so that a sink which was away for a while is found back within about a fifth of that while, and
    never later than after the longest pause.
    """

    save_seconds: float = 1.0
    look_seconds: float = 10.0
    """How often a sink that is paused or disabled is looked at, should its bell be missed."""
    idle_look_seconds: float | None = None
    """How often one is looked at, at a poll, where no bell tells of what people decide; None where one does."""
    first_pause_seconds: float = 0.2
    longest_pause_seconds: float = 30.0
    pause_growth: float = 1.15
    retry_delays_seconds: tuple[float, ...] = RETRY_DELAYS_SECONDS
    witness_seconds: float = 60.0
    """Whoever breaks a sink on which somebody's total has arrived so lately is to blame, and not the sink."""
    pull_forward_seconds: float = 5.0
    """A sink that was ill for longer than this has those be tried ahead of time whom that may have cost a try."""
    retry_soon_seconds: float = 6.0
    """A newer total of a user whose next try is due this soon waits for it."""

    def with_schedule(self, delays_seconds: Sequence[float] | None) -> Timings:
        """Return the times of a sink that has a retry schedule of its own, or with None the same."""
        return self if delays_seconds is None else replace(self, retry_delays_seconds=tuple(delays_seconds))


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of something there may be."""

    fresh_totals: int = 4000
    """Handed over at most; who is further behind reads the table, where each user stands once."""
    refused_together: int = 20
    """Where so many users are refused and nobody's total passes, it is the sink that is ill, not the deliveries."""
    probed_from: int = 1024
    """An ill sink is tried with one of so many totals, however few it takes at a time."""
    known_deliveries: int = 200_000
    """Users of refused deliveries that are kept in mind; of more, each batch is looked up."""
    refusals_logged: int = 20
    """A minute, one line each."""


TIMINGS = Timings()
BOUNDS = Bounds()
