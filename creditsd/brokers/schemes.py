"""Finds the module that implements the scheme of a url, in a package that has one for each."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from creditsd.domain.errors import ConfigError


def schemes(path: Iterable[str]) -> list[str]:
    """List what a package implements: its modules, by its `__path__`."""
    return sorted(module.name for module in pkgutil.iter_modules(path))


def implemented_by(scheme: str, known: Iterable[str]) -> str | None:
    """Name the module of a scheme: what stands before the `+`, with or without the `s` of TLS; None for none."""
    base = scheme.split("+", 1)[0]
    return next((each for each in (base, base.removesuffix("s")) if each in known), None)


def load(package: str, name: str, whose: str) -> ModuleType:
    """Import a module of a package. Raises ConfigError, which begins with whose, where a client library is missing."""
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError as missing:
        library = (missing.name or "creditsd").split(".", 1)[0]
        if library == "creditsd":
            raise
        raise ConfigError(f"{whose} needs {library}: pip install 'creditsd[{name}]'") from None
