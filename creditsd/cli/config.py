"""`creditsd config`: the settings in force."""

from __future__ import annotations

import sys

import tomli_w

from creditsd.cli.console import invocation, say
from creditsd.config.settings import redacted
from creditsd.sinks import shown


def config() -> None:
    """Print the settings in force as TOML, with every secret masked, and what no sink knows as well."""
    settings = invocation.settings()
    sinks = [shown(each) for each in settings.sinks]
    sys.stdout.write(tomli_w.dumps(redacted(settings) | {"sinks": [each for each, _ in sinks]}))
    for _, problem in sinks:
        if problem is not None:
            say(problem, note=True)
