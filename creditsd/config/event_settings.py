"""The settings of events: what is told beside a new total."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated

from pydantic import Field, model_validator

from creditsd.config.types import Credits, Section


class EventSettings(Section):
    """When a sink that asks for it is told of more than a new total; 0 is off, and thresholds themselves count."""

    low_credits: Credits = Decimal(0)
    """at so many credits or fewer a user is low; fractions are exact. 0: nobody ever is, credits just run out"""
    recovered_credits: Credits = Decimal(0)
    """who was low or out of credits has recovered at so many; it must be above `low_credits`, and 0 means anything
    above that"""
    expiring_soon_days: Annotated[float, Field(ge=0, le=3650, allow_inf_nan=False)] = 0.0
    """a plan ends soon when it does within so many days, of 24 hours each. 0: nobody is told"""

    @property
    def low_told(self) -> Decimal | None:
        """What totals say as `low_credits`; None where no threshold is set."""
        return self.low_credits if self.low_credits or self.recovered_credits else None

    @property
    def policy(self) -> str:
        """As recompute takes them; with a threshold also that totals tell it, which those of an older daemon do not."""
        if self.low_told is None:
            return self.model_dump_json()
        return json.dumps({**self.model_dump(mode="json"), "tells_level": True}, separators=(",", ":"))

    @model_validator(mode="after")
    def _recovers_above_low(self) -> EventSettings:
        if 0 < self.recovered_credits <= self.low_credits:
            raise ValueError(
                f"recovered_credits {self.recovered_credits} must be above low_credits {self.low_credits}, "
                "or 0 for anything above it"
            )
        return self
