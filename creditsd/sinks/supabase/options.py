"""What can be set for a sink of Supabase beside its url."""

from __future__ import annotations

from pydantic import BaseModel, Field, PositiveFloat


class Options(BaseModel, extra="forbid"):
    """What can be set beside the url."""

    topic: str = Field(default="credits:", pattern=r"^[A-Za-z0-9_.:/-]{1,200}$")
    """begins each topic, before the user's id; another one for each
    [installation](deploy.md#several-kinds-several-tables)"""
    key: str = Field(default="", repr=False)
    """required with HTTP: the secret key, `sb_secret_…` or `service_role`; the public ones are refused at the start"""
    ca: str = ""
    """with https: certificates in PEM, trusted instead of the system's"""
    timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    """for a whole request or batch"""
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    """to connect"""
