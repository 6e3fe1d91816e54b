"""The raw figures, a JSON file each part, so that one can be measured again alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from bench.plan import PARTS

KEPT = Path(__file__).with_name("results")
SCRATCH = KEPT / "scratch"  # of --quick runs, which are no figures


def keep(folder: Path, name: str, document: dict[str, Any]) -> None:
    """Replace what was kept of a part."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_bytes(
        orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    )


def kept(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return what is kept, in the order of the plan."""
    for name in PARTS:
        path = folder / f"{name}.json"
        if path.exists():
            yield name, orjson.loads(path.read_bytes())
