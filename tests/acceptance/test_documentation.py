"""The documentation as a site: it is built without a warning, and every page can be reached."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_site_is_built_and_no_link_of_it_leads_nowhere(tmp_path: Path) -> None:
    # A page that no other leads to is a warning, too.
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--builder", "html"]
    done = subprocess.run([*command, DOCS, tmp_path], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.stem for path in DOCS.glob("*.md")} <= {path.stem for path in tmp_path.glob("*.html")}
    front = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="tutorial.html"' in front
    assert (tmp_path / "searchindex.js").exists()
