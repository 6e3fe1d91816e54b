"""The HTTP surface of the daemon on this machine: whether it answers, is ready, and runs this version."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from creditsd import __version__
from creditsd.admin.doctor.finding import Finding, good, note, problem
from creditsd.admin.probe import probe
from creditsd.config.settings import Settings


async def examine(settings: Settings) -> Sequence[Finding]:
    """Ask the daemon on this machine how it is."""
    if settings.http.address is None:
        return [note("http", "off (http.listen is empty): no probes, no metrics, no page")]
    answer = await asyncio.to_thread(probe, settings.http.address, "/readyz")
    if answer is None:
        return [note("http", f"no daemon of this machine answers at {settings.http.listen}")]
    found = [good("http", answer.said)] if answer.well else [problem("http", answer.said)]
    if answer.version not in ("", __version__):
        said = f"the daemon here is {answer.version}, this command {__version__}"
        found.append(note("http", said, "restart the daemon"))
    return found
