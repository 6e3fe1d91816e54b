"""The command `creditsd`, and `python -m creditsd`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

EX_CONFIG = 78


def main() -> None:
    """Run the commands; where PostgreSQL's client library is missing, say so in one line."""
    try:
        import psycopg  # noqa: F401  every command needs it
    except ImportError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        hint = "pip install 'creditsd[binary]', or your system's own (Debian: apt-get install libpq5)"
        sys.stderr.write(f"creditsd: no libpq is found ({reason}): {hint}\n")
        sys.exit(EX_CONFIG)
    _import_structlog_alone()
    config = _config_of_run(sys.argv[1:])
    if config is not None and not sys.stderr.isatty():
        from creditsd.cli import unattended

        unattended.run(Path(config) if config else None)
    from creditsd.cli import app

    app.main()


def _config_of_run(arguments: Sequence[str]) -> str | None:
    """Return the file that a plain `creditsd run` names, "" where it names none; None of any other command line."""
    match arguments:
        case ["run"]:
            return ""
        case ["-c" | "--config", str(config), "run"] if config:
            return config
        case _:
            return None


def _import_structlog_alone() -> None:
    """Import structlog without rich, which it would draw tracebacks with: ours are text by then, to be redacted."""
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]


if __name__ == "__main__":
    main()
