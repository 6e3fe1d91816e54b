"""deploy/prometheus and deploy/grafana: alerts that are raised, and nothing asked for that nobody exports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_metrics import everything

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "creditsd.rules.yml"
BOARD: Any = json.loads((ROOT / "deploy" / "grafana" / "creditsd.json").read_text(encoding="utf-8"))
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]

promtool = shutil.which("promtool")
with_promtool = pytest.mark.skipif(promtool is None, reason="needs promtool (Debian: apt-get install prometheus)")


def samples() -> set[str]:
    """The names of all series that a scrape may have."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "info": ["_info"]}
    return {family.name + suffix for family in everything().collect() for suffix in suffixes.get(family.type, [""])}


def named(text: str) -> set[str]:
    return set(re.findall(r"\b(?:creditsd|process)_\w+", text))


def test_alerts_and_dashboard_ask_for_nothing_that_is_not_exported() -> None:
    asked = named("\n".join([*re.findall(r"expr: (.+)", RULES.read_text(encoding="utf-8")), *EXPRESSIONS]))
    assert len(asked) > 20
    assert asked <= samples()


def test_each_alert_has_its_run_book_and_each_run_book_its_alert() -> None:
    text = RULES.read_text(encoding="utf-8")
    alerts = re.findall(r"alert: (\w+)", text)
    books = re.findall(r"^## (\w+)$", (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(alerts) == sorted(books)
    assert re.findall(r"alerts\.md#(\w+)", text) == [alert.lower() for alert in alerts]


def test_no_panel_lies_over_another() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    for one, other in combinations([panel["gridPos"] for panel in BOARD["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in BOARD["panels"])


@with_promtool
def test_each_alert_is_raised_by_what_it_is_for_and_by_nothing_else() -> None:
    tested = (RULES.parent / "creditsd.test.yml").read_text(encoding="utf-8")
    assert all(alert in tested for alert in re.findall(r"alert: (\w+)", RULES.read_text(encoding="utf-8")))
    _promtool("test", "rules", RULES.parent / "creditsd.test.yml")


@with_promtool
def test_every_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    lines = [
        f"      - {{record: 'panel:{number}', expr: {json.dumps(each.replace('$__rate_interval', '5m'))}}}"
        for number, each in enumerate(EXPRESSIONS)
    ]
    rules = tmp_path / "dashboard.rules.yml"
    rules.write_text("\n".join(["groups:", "  - name: dashboard", "    rules:", *lines]) + "\n")
    assert f"{len(EXPRESSIONS)} rules found" in _promtool("check", "rules", rules)


def _promtool(*arguments: str | Path) -> str:
    assert promtool is not None
    done = subprocess.run([promtool, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
