"""What people see of something that goes through everyone: how far it is, and how fast."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class ProgressBar:
    """How far something is that goes through everyone; appears when there is something to show, and stays."""

    def __init__(self, console: Console, what: str = "backfill") -> None:
        self._console = console
        self._what = what
        self._progress: Progress | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def show(self, done: int, users: int, over: bool) -> None:
        """Show that so many of about so many users are done."""
        if self._progress is None:
            self._progress, self._began = self._begin(), time.monotonic()
        rate = f"{done / max(time.monotonic() - self._began, 0.001):,.0f}/s"
        total = done if over else max(users, done)
        self._progress.update(self._progress.task_ids[0], completed=done, total=total, rate=rate)
        if over:
            self._end()

    def _begin(self) -> Progress:
        columns = (
            TextColumn(self._what),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("users"),
            TextColumn("{task.fields[rate]}", style="dim"),
            TimeElapsedColumn(),
        )
        progress = Progress(*columns, console=self._console)
        progress.add_task(self._what, total=None, rate="")
        progress.start()
        return progress

    def _end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = None
