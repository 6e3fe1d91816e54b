"""What can be set for a sink of Supabase beside its url."""

from __future__ import annotations

from pydantic import BaseModel, Field, PositiveFloat


class Options(BaseModel, extra="forbid"):
    """What can be set beside the url."""

    topic: str = Field(default="credits:", pattern=r"^[A-Za-z0-9_.:/-]{1,200}$")
    """What begins each topic; the user's id follows."""
    key: str = Field(default="", repr=False)
    ca: str = ""
    timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
