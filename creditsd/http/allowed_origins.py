"""The origins whose pages may ask from a browser: exact ones, ones with a `*` for a part of a label, or all."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What may stand at a `*`: a part of one label of a host, as browsers write it, so that no dot opens another domain.
_PART = "[a-z0-9_-]{1,63}"


class AllowedOrigins:
    """Tells whether a page of an origin may ask."""

    def __init__(self, origins: Sequence[str]) -> None:
        self.everyone = "*" in origins
        self._exact = frozenset(origins)
        self._patterns = [re.compile(_pattern(each)) for each in origins if "*" in each and each != "*"]

    def __bool__(self) -> bool:
        return bool(self._exact)

    def allows(self, origin: str) -> bool:
        """Return whether the origin, as the header says it, is one of them."""
        # A `*` that somebody sends is no origin of a page, whatever is listed.
        return self.everyone or (
            "*" not in origin and (origin in self._exact or any(each.fullmatch(origin) for each in self._patterns))
        )


def _pattern(origin: str) -> str:
    before, _, behind = origin.partition("*")
    return re.escape(before) + _PART + re.escape(behind)
