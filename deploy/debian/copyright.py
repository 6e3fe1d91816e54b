"""Print the package's copyright file: ours, and whose what its virtual environment brings is, by their metadata."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]


def document(site: Path) -> Iterator[str]:
    """Make the file, line by line, of what is installed in a folder."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8").strip()
    yield from ("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/", "Upstream-Name: creditsd")
    yield from (f"Source: {homepage()}", "Comment:")
    yield " /usr/lib/creditsd is a virtual environment of Python's. The licences of what it holds are in"
    yield " /usr/lib/creditsd/lib/python3*/site-packages/*.dist-info:"
    for each in sorted(metadata.distributions(path=[str(site)]), key=lambda each: each.name.lower()):
        yield f" - {each.name} {each.version}: {licence(each)}"
    yield from ("", "Files: *", f"Copyright: {holder(text)}", "License: Expat")
    yield from (f" {line}" if line.strip() else " ." for line in text.splitlines()[2:])
    yield from ("", "Files: usr/lib/creditsd/lib/python3*/site-packages/creditsd/http/page/archivo.woff2")
    fonts = (ROOT / "creditsd" / "http" / "page" / "archivo.OFL.txt").read_text(encoding="utf-8").strip()
    yield from (f"Copyright: {holder(fonts)}", "License: OFL-1.1")
    yield from (f" {line}" if line.strip() else " ." for line in fonts.splitlines())


def homepage() -> str:
    """Return where the sources are."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["urls"]["Homepage"])


def holder(text: str) -> str:
    """Return whose a licence's text says the work is."""
    return next(line for line in text.splitlines() if line.startswith("Copyright")).removeprefix("Copyright").strip()


def licence(distribution: metadata.Distribution) -> str:
    """Return a distribution's licence in a few words."""
    said = distribution.metadata
    classifiers = [
        each.rpartition(" :: ")[2] for each in said.get_all("Classifier") or () if each.startswith("License")
    ]
    for each in (said["License-Expression"], ", ".join(classifiers), said["License"]):
        if each and "\n" not in each.strip():
            return str(each).strip()
    return "see its folder"


if __name__ == "__main__":
    sys.stdout.write("\n".join(document(Path(sys.argv[1]))) + "\n")
