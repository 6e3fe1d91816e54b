"""Makes what traces the line, where that is asked for: otherwise nothing of OpenTelemetry is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from creditsd.config.tracing_settings import TracingSettings
from creditsd.domain.errors import ConfigError

if TYPE_CHECKING:
    from creditsd.metrics.traces import Traces


def tracing(settings: TracingSettings) -> Traces | None:
    """Make it, not open yet; None where traces are off. Raises ConfigError where the library is missing."""
    if not settings.otlp_url:
        return None
    try:
        from creditsd.metrics.traces import Traces
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("creditsd"):
            raise
        raise ConfigError("tracing needs: pip install 'creditsd[otel]'") from None
    return Traces(settings)
