"""The settings of traces: where they are sent, and how many of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from creditsd.config.types import HttpUrl, Section


class TracingSettings(Section):
    """Traces of batches; without a url there are none."""

    otlp_url: HttpUrl = ""
    """where [traces](operations.md#traces) are sent by OTLP over HTTP: `http://localhost:4318/v1/traces`; empty:
    nowhere"""
    sample_ratio: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    """the share of batches that is traced"""
