"""The command `creditsd`, and `python -m creditsd`."""

from __future__ import annotations

import sys

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
    from creditsd.cli import app

    app.main()


if __name__ == "__main__":
    main()
