"""Writes the kept figures into docs/performance.md, between its markers; the prose around them stays as it is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from bench import results, targets
from bench.plan import PARTS

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "performance.md"

PLOTS = {
    "writers": "![transactions per second, by clients and trigger](images/writers.svg)\n\n",
    "latency": "![milliseconds from commit to subscriber, by rate](images/latency.svg)\n\n",
}


def write(folder: Path) -> list[Path]:
    """Replace the figures of every part that was measured, and draw the plots; return what was written."""
    text = PAGE.read_text(encoding="utf-8")
    kept = dict(results.kept(folder))
    for name, document in kept.items():
        text = replaced(text, name, section(name, document))
    text = replaced(text, "targets", targets.sheet(kept).markdown())
    PAGE.write_text(text, encoding="utf-8")
    return [PAGE, *drawn(kept)]


def drawn(kept: dict[str, dict[str, Any]]) -> list[Path]:
    """Draw the plots, which needs what only the extra bench brings."""
    try:
        plots = importlib.import_module("bench.plots")
    except ImportError as error:
        raise SystemExit(f"{error}: the plots need pip install -e '.[bench]'; the tables are written") from error
    return list(plots.draw(kept, DOCS / "images"))


def section(name: str, document: dict[str, Any]) -> str:
    """Write a part's tables, and what they were measured on."""
    sheets = PARTS[name].load().sheets(document["found"])
    machine = document["machine"]
    rounds = f"{document['rounds']} round" + ("s" if document["rounds"] > 1 else "")
    said = (
        f"PostgreSQL {machine['postgresql']}, {machine['cores']} cores shared by everything, {rounds}, "
        f"load average before {machine['load_before']}, {machine['measured_at'][:10]}."
    )
    return PLOTS.get(name, "") + "\n".join([sheet.markdown() for sheet in sheets]) + f"\n{said}\n"


def replaced(text: str, name: str, made: str) -> str:
    """Put a section between its markers; the page must have them."""
    marks = re.compile(rf"(<!-- figures: {name} -->\n).*?(<!-- end of figures -->)", re.DOTALL)
    if marks.search(text) is None:
        wanted = f"<!-- figures: {name} --> and <!-- end of figures -->"
        raise SystemExit(f"{PAGE} has no place for {name}: put {wanted} there")
    return marks.sub(lambda match: match[1] + made + match[2], text, count=1)
