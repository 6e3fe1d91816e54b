"""The demo where there is no terminal: one line per total."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from creditsd.demo.board import Arrival
from creditsd.domain.total import digits


class Lines:
    """Writes to standard output; when nobody reads it any more, asks for the end."""

    def __init__(self, on_deaf: Callable[[], None]) -> None:
        self._on_deaf = on_deaf
        self.deaf = False

    def announce(self, arrivals: Sequence[Arrival], kind: str = "") -> None:
        """Write what has just arrived, and of which kind, where there are several."""
        self.write("\n".join(_line(arrival, kind) for arrival in arrivals))

    def write(self, text: str) -> None:
        """Write a line or several, at once."""
        if self.deaf:
            return
        try:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered must not fail once more when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.deaf = True
            self._on_deaf()


def _line(arrival: Arrival, kind: str) -> str:
    total, milliseconds = arrival.total, arrival.age.milliseconds
    step = f"+{digits(arrival.step)}" if arrival.step > 0 else digits(arrival.step)
    after = "" if milliseconds is None else f"{milliseconds:.1f} ms"
    return (
        f"{total.updated_at:%H:%M:%S.%f} {arrival.name:<20} {digits(total.credits):>8} credits {step:>6}  "
        f"{total.membership_status:<8}{total.membership or '-':<8}{total.cause:<12}{after:>9}"
        f"{f'  {kind}' if kind else ''}"
    )
