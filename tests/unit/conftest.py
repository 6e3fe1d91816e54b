"""Settings as a test gives them: nothing set but what it sets itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from creditsd.config import settings as settings_module
from creditsd.config.settings import load
from creditsd.domain.errors import ConfigError


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name.startswith("CREDITSD_") or name == "CREDENTIALS_DIRECTORY":
            monkeypatch.delenv(name)
    monkeypatch.setattr(settings_module, "DEFAULT_FILE", tmp_path / "no such file")


@pytest.fixture
def setenv(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_all(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"CREDITSD_{name}", value)

    return set_all


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "creditsd.toml"
        path.write_text(text)
        return path

    return write


def refused(config: Path | None = None) -> str:
    with pytest.raises(ConfigError) as refusal:
        load(config)
    line = str(refusal.value)
    assert "\n" not in line
    return line
