"""Write the tables of settings and of sinks' options into the pages: default, bounds and meaning.

`make docs` runs it, and `tests/unit/test_reference.py` fails where a page differs. A table stands between
`<!-- settings: Section … -->`, which names the classes it is made of, and `<!-- /settings -->`; of a sink's options,
between `<!-- options: scheme -->` and `<!-- /options -->`.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from creditsd import sinks
from creditsd.config.settings import Settings

PAGES = tuple(Path(__file__).parent / name for name in ("configuration.md", "sinks.md"))
_TABLE = re.compile(r"(<!-- (settings|options): ([\w ]+) -->\n)(.*?)(<!-- /\2 -->)", re.DOTALL)


class Section(NamedTuple):
    """The settings that one class itself names."""

    prefix: str  # what their keys begin with
    cls: type[BaseModel]


def written(page: str) -> str:
    """Return a page with its tables as the code has them. Raises KeyError for a name that is not known."""
    known = {"settings": sections(), "options": options()}
    return _TABLE.sub(
        lambda found: found[1] + "\n".join(_table(known[found[2]], found[3].split())) + "\n\n" + found[5], page
    )


def named(page: str) -> list[str]:
    """Return the sections and sinks whose settings a page lists."""
    return [name for _, _, names, _, _ in _TABLE.findall(page) for name in names.split()]


def sections() -> dict[str, list[Section]]:
    """Return every class of settings that has some of its own, by name."""
    return {each.cls.__name__: [each] for each in _below(Settings, "")}


def options() -> dict[str, list[Section]]:
    """Return of every sink that has options the classes they stand in, its own first."""
    modules = {each.name: import_module(f"{sinks.__name__}.{each.name}") for each in iter_modules(sinks.__path__)}
    found = {name: _classes(module.Options) for name, module in modules.items() if hasattr(module, "Options")}
    return {name: [Section("", cls) for cls in classes] for name, classes in found.items() if classes}


def _below(section: type[BaseModel], prefix: str) -> Iterator[Section]:
    for cls in _classes(section):
        yield Section(prefix, cls)
    for name, field in section.model_fields.items():
        if (inner := _section_of(field)) is not None:
            yield from _below(inner, f"{prefix}{name}.")


def _classes(section: type[BaseModel]) -> list[type[BaseModel]]:
    return [cls for cls in section.__mro__ if issubclass(cls, BaseModel) and any(_settings(cls))]


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _settings(cls: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    own = inspect.get_annotations(cls)
    return ((name, field) for name, field in cls.model_fields.items() if name in own and _section_of(field) is None)


def _table(known: Mapping[str, list[Section]], names: list[str]) -> Iterator[str]:
    yield "| key | default | may be | meaning |"
    yield "|---|---|---|---|"
    for prefix, cls in (section for name in names for section in known[name]):
        meanings = _docstrings(inspect.getsourcefile(cls) or "", cls.__name__)
        for name, field in _settings(cls):
            cells = (f"`{prefix}{name}`", _default(field), _allowed(field), meanings.get(name, ""))
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


@cache
def _docstrings(file: str, cls: str) -> dict[str, str]:
    """Read what stands behind each field of a class as a string: its meaning."""
    (found,) = (
        node
        for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name == cls
    )
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(found.body, found.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _default(field: FieldInfo) -> str:
    return "" if field.default is None else f"`{_toml(field.default)}`"


def _toml(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else json.dumps(value)


def _allowed(field: FieldInfo) -> str:
    kind, bounds = _kind(field)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{_toml(each)}`" for each in get_args(kind))
    if get_origin(kind) is list:
        return "a list, not empty" if "min_length" in bounds else "a list"
    if kind is bool:
        return "`true`, `false`"
    if kind in (int, float, Decimal):
        return ("a whole number, " if kind is int else "") + _range(bounds)
    return "not empty" if "min_length" in bounds else ""


def _kind(field: FieldInfo) -> tuple[Any, dict[str, Any]]:
    """Return a setting's type, without None, and what bounds it."""
    kind, told = field.annotation, [*field.metadata]
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) is Annotated:
        kind, *more = get_args(kind)
        told += more
    names = ("gt", "ge", "le", "min_length")
    return kind, {name: getattr(each, name) for each in told for name in names if getattr(each, name, None) is not None}


def _range(bounds: Mapping[str, Any]) -> str:
    least = f"above {_figure(bounds['gt'])}" if "gt" in bounds else _figure(bounds["ge"])
    if "le" in bounds:
        return f"{least}{',' if 'gt' in bounds else ''} to {_figure(bounds['le'])}"
    return least if "gt" in bounds else f"{least} or more"


def _figure(number: Any) -> str:
    return f"{number:,}".replace(",", " ")


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
