"""What can be set for a sink of Supabase beside its url."""

from __future__ import annotations

from pydantic import BaseModel, Field, PositiveFloat


class Options(BaseModel, extra="forbid"):
    """What can be set beside the url."""

    key: str = Field(default="", repr=False)
    ca: str = ""
    timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
