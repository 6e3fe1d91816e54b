"""The commands that hints name, as they are to be typed: of another installation than the first they say so."""

from __future__ import annotations

import re

from creditsd.config.types import DEFAULT_SCHEMA

_COMMAND = re.compile(r"`creditsd (?=[a-z])")


def of_installation(text: str, schema: str) -> str:
    """Return a text with the commands in it (each in backticks) as they act on the installation in `schema`."""
    if schema == DEFAULT_SCHEMA:
        return text
    return _COMMAND.sub(f"`CREDITSD_SCHEMA={schema} creditsd ", text)
