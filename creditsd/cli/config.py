"""`creditsd config`: the settings in force."""

from __future__ import annotations

import sys

import tomli_w

from creditsd.cli.console import invocation
from creditsd.config.settings import redacted


def config() -> None:
    """Print the settings in force as TOML, with every secret masked."""
    sys.stdout.write(tomli_w.dumps(redacted(invocation.settings())))
