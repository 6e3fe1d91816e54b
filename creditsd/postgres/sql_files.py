"""The SQL of `sql/`, read by name."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from creditsd.domain.errors import CreditsdError

_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")


@cache
def sql(name: str) -> str:
    """Return the text of `sql/<name>.sql`, e.g. `sql("queries/balances_after")`."""
    path = _folder() / f"{name}.sql"
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CreditsdError(f"no SQL of that name: {path}") from None


def migrations() -> list[tuple[int, str]]:
    """Return every migration as (number, its name for `sql()`), in the order they apply.

    Two of one number, or a file that is not called NNNN_name.sql, is a bug of ours and raises.
    """
    found: dict[int, str] = {}
    for path in sorted((_folder() / "migrations").glob("*.sql")):
        match = _MIGRATION.fullmatch(path.name)
        if match is None:
            raise CreditsdError(f"a migration is called NNNN_name.sql, not {path.name}")
        number = int(match[1])
        if number in found:
            raise CreditsdError(f"two migrations have the number {match[1]}: {found[number]} and {path.stem}")
        found[number] = f"migrations/{path.stem}"
    return list(found.items())


@cache
def _folder() -> Path:
    """Find `sql/`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "sql", package.parent / "sql"):
        if folder.is_dir():
            return folder
    raise CreditsdError(f"no sql files, neither in {package} nor beside it: install creditsd again")
