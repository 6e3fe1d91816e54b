"""The settings of traces: where they are sent, and how many of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from creditsd.config.types import SECTION, HttpUrl


class TracingSettings(BaseModel):
    """Traces of batches; without a url there are none."""

    model_config = SECTION

    otlp_url: HttpUrl = ""
    """where [traces](operations.md#traces) are sent by OTLP over HTTP: `http://localhost:4318/v1/traces`; empty:
    nowhere"""
    sample_ratio: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    """the share of batches that is traced"""
