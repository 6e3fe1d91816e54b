"""`creditsd uninstall`: removes what `install` made."""

from __future__ import annotations

from creditsd.cli.console import finish, invocation
from creditsd.cli.install import tell
from creditsd.schema import install as schema


def uninstall() -> None:
    """Remove the triggers and the schema `creditsd`, with everything in it. Your table stays as it is."""
    tell(finish(schema.uninstall(invocation.settings())), otherwise="nothing to do: creditsd is not installed")
