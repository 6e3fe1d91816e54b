"""What processes have used of the processor."""

from __future__ import annotations

import os
from pathlib import Path


def server_seconds(pid: int) -> float:
    """Return the processor seconds of a server and its processes so far, those that have ended included."""
    return sum(_seconds(each) for each in (pid, *children(pid)))


def children(pid: int) -> list[int]:
    """Return the processes that the main thread of a process has started, and that live."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _seconds(pid: int) -> float:
    """Return what a process has used, and those of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:  # it has ended meanwhile: its parent has its time
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
