"""The registry of one process: what is counted in it, and the process itself."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics


def registry() -> CollectorRegistry:
    """Make one; two daemons in one process, as in tests, count apart."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # when each counter was made doubles their number and tells nothing: `process_` has it
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    return made
