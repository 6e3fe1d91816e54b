"""Another version of creditsd than the installed one: a copy of it with some of its files changed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import creditsd

ROOT = Path(creditsd.__file__).parents[1]


@dataclass(frozen=True, slots=True)
class AnotherVersion:
    """A copy below a folder of the test's own; whatever is started with its environment is that version."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> AnotherVersion:
        """Copy the package, compiled as it is, and its SQL."""
        for part in ("creditsd", "sql"):
            shutil.copytree(ROOT / part, folder / part)
        return cls(folder)

    def env(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return an environment in which the command is this version's."""
        return {**env, "PYTHONPATH": str(self.folder)}

    def replace(self, path: str, old: str, new: str) -> None:
        """Say something else in a file, wherever it says something; fail where it does not."""
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert old in text, f"{path} does not say {old!r}"
        file.write_text(text.replace(old, new), encoding="utf-8")

    def add_migration(self, statements: str) -> int:
        """Add a migration after the newest, and return its number."""
        folder = self.folder / "sql" / "migrations"
        number = max(int(path.name[:4]) for path in folder.iterdir()) + 1
        (folder / f"{number:04}_of_another_version.sql").write_text(statements, encoding="utf-8")
        return number
