"""The settings: where they come from, what of them is hidden, and secrets that could be guessed."""

from __future__ import annotations

from collections.abc import Sequence

from creditsd.admin.doctor.finding import Finding, good, note
from creditsd.config.settings import Settings


def examine(settings: Settings) -> Sequence[Finding]:
    """Look at the settings alone."""
    origin = settings.origin
    found = [good("settings", f"read from {origin.file}" if origin.file else "read from the environment alone")]
    found += [note("settings", f"{below} is not used: {above} is set as well") for above, below in origin.overrides]
    for name, wanted in settings.http.short_secrets.items():
        hint = f"make it of {wanted} random bytes or more, e.g. openssl rand -base64 {wanted}"
        found.append(note("secrets", f"{name} is short enough to be guessed", hint))
    return found
