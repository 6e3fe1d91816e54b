"""`python -m creditsd` is `creditsd`."""

from __future__ import annotations

from creditsd.cli.app import main

main()
