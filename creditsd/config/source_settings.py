"""The settings of the application's table: its name, its columns, the words used in it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from creditsd.config.types import Column, ColumnOrNone, Condition, Relation, Section, Word, parse_relation


class ColumnSettings(Section):
    """What the table calls each column, exactly as it is stored; "" where an optional one is missing."""

    user_id: Column = "user_id"
    """uuid, text or bigint"""
    credits: Column = "credits"
    """integer, bigint or numeric; never rounded, null adds nothing"""
    status: Column = "status"
    """text, an enum, or a boolean or whole number: then the statuses are [written as text](#statuses-that-are-no-words)
    """
    plan_type: ColumnOrNone = "plan_type"
    """text or an enum"""
    membership: ColumnOrNone = "membership"
    """the plan's name, of any type; what is longer than 1 000 bytes as text is cut, with `...`"""
    subscription_id: ColumnOrNone = "subscription_id"
    """of any type, and cut likewise"""
    starts_at: ColumnOrNone = "starts_at"
    """from that instant on the row counts; null does at once"""
    expires_at: ColumnOrNone = "expires_at"
    """exclusive: at that instant the row counts no more; null never ends"""
    created_at: ColumnOrNone = "created_at"
    """which row is the newest"""


class SourceSettings(Section):
    """The application's table, and the words used in it."""

    table: Relation = "public.user_credits"
    """the table as in SQL; `"quoted names"` too; it may be partitioned"""
    columns: ColumnSettings = ColumnSettings()
    where: Condition = ""
    """which rows count, as a [condition in SQL](#a-condition-on-the-rows): `deleted_at IS NULL`; empty: all"""
    active_statuses: Annotated[list[Word], Field(min_length=1)] = ["active"]
    """the statuses that count"""
    expired_status: Word = "expired"
    """the status that a used-up pack gets"""
    subscription_types: list[Word] = ["subscription"]
    """the values of `plan_type` that are subscriptions"""
    one_time_types: list[Word] = ["one_time"]
    """those that are packs"""
    timezone: Word = "UTC"
    """how `timestamp` and `date` columns are read; a `date` in `starts_at` begins with its day, one in `expires_at`
    counts through it"""

    @property
    def relation(self) -> tuple[str, str]:
        """The table as (schema, name), unquoted."""
        return parse_relation(self.table)

    @model_validator(mode="after")
    def _no_contradiction(self) -> SourceSettings:
        if self.expired_status in self.active_statuses:
            raise ValueError(f"expired_status {self.expired_status!r} must not be one of active_statuses")
        if both := set(self.subscription_types) & set(self.one_time_types):
            raise ValueError(f"{min(both)!r} must not be in both subscription_types and one_time_types")
        return self
