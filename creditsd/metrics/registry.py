"""Makes the registry of a process, with the process's own metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Info, ProcessCollector, disable_created_metrics

from creditsd import __version__


def registry() -> CollectorRegistry:
    """Make a registry; two daemons in one process, as in tests, each have their own."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # when each counter was made doubles their number and tells nothing: `process_` has it
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    Info("creditsd_build", "Which creditsd this is.", registry=made).info({"version": __version__})
    return made
