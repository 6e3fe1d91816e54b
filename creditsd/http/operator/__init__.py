"""The operator's page, its API, and what may be shown beside it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PageBeside:
    """Another page that is shown beside the operator's, and the user to explain at first."""

    page: str
    user_id: str
