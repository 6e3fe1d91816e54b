"""Write the tables of settings into docs/configuration.md: what each is called, starts as, may be, and means.

`make docs` runs it, and `tests/unit/test_reference.py` fails where the page differs. A table stands between
`<!-- settings: Section … -->`, which names the classes it is made of, and `<!-- /settings -->`.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from creditsd.config.settings import Settings

PAGE = Path(__file__).parent / "configuration.md"
_TABLE = re.compile(r"(<!-- settings: ([\w ]+) -->\n)(.*?)(<!-- /settings -->)", re.DOTALL)


def written(page: str) -> str:
    """Return a page with its tables as the code has them. Raises KeyError for a class that is no section."""
    known = sections()
    return _TABLE.sub(lambda found: found[1] + "\n".join(_table(found[2].split(), known)) + "\n\n" + found[4], page)


def named(page: str) -> list[str]:
    """Return the classes whose settings a page lists."""
    return [name for _, names, _, _ in _TABLE.findall(page) for name in names.split()]


def sections() -> dict[str, tuple[str, type[BaseModel]]]:
    """Return every class of settings that has a field of its own, by name: what its keys begin with, and the class."""
    return {cls.__name__: (prefix, cls) for prefix, cls in _below(Settings, "")}


def _below(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for cls in reversed(section.__mro__):
        if issubclass(cls, BaseModel) and any(_settings(cls)):
            yield prefix, cls
    for name, field in section.model_fields.items():
        if (inner := _section_of(field)) is not None:
            yield from _below(inner, f"{prefix}{name}.")


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _settings(cls: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the settings that a class itself names, without those of its bases and those that are sections."""
    own = inspect.get_annotations(cls)
    return ((name, field) for name, field in cls.model_fields.items() if name in own and _section_of(field) is None)


def _table(names: list[str], known: Mapping[str, tuple[str, type[BaseModel]]]) -> Iterator[str]:
    yield "| key | default | may be | meaning |"
    yield "|---|---|---|---|"
    for prefix, cls in (known[name] for name in names):
        meanings = _docstrings(inspect.getsourcefile(cls) or "", cls.__name__)
        for name, field in _settings(cls):
            cells = (f"`{prefix}{name}`", f"`{_toml(field.default)}`", _allowed(field), meanings.get(name, ""))
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


def _toml(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else json.dumps(value)


def _allowed(field: FieldInfo) -> str:
    kind = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{_toml(each)}`" for each in get_args(kind))
    if get_origin(kind) is list:
        return "a list, not empty" if _bound(field, "min_length") else "a list"
    if kind is bool:
        return "`true`, `false`"
    if kind in (int, float, Decimal):
        return ("a whole number, " if kind is int else "") + _range(field)
    return "not empty" if _bound(field, "min_length") else ""


def _range(field: FieldInfo) -> str:
    above, least, most = (_bound(field, name) for name in ("gt", "ge", "le"))
    lower = f"above {_figure(above)}" if above is not None else _figure(least)
    if most is None:
        return f"{lower} or more"
    return f"{lower}, to {_figure(most)}" if above is not None else f"{lower} to {_figure(most)}"


def _figure(number: Any) -> str:
    return f"{number:,}".replace(",", " ")


def _bound(field: FieldInfo, name: str) -> Any:
    return next((getattr(each, name) for each in field.metadata if hasattr(each, name)), None)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
