"""`creditsd uninstall`: removes what `install` made."""

from __future__ import annotations

from creditsd.cli.console import Yes, agreed, invocation
from creditsd.cli.install import tell
from creditsd.schema import install as schema


def uninstall(yes: Yes = False) -> None:
    """Remove the triggers and the schema `creditsd`, with everything in it. Your table stays as it is.

    Where a daemon leads, it asks first.
    """
    settings = invocation.settings()
    outcome = agreed(lambda yes: schema.uninstall(settings, agreed=yes), yes)
    tell(outcome, otherwise="nothing to do: creditsd is not installed")
