"""The plots of the page: writers by clients and variant, latency by rate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench.figure import figure
from bench.latency import kept_up

COLOURS = ("#444444", "#9a9a9a", "#c8553d", "#4a90b8", "#1f5f8b", "#7a9e3a", "#8e6bb0")


def draw(kept: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    """Draw what was measured; SVG without a date in it, so that the same figures make the same file."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "creditsd", "svg.fonttype": "none", "font.size": 10})
    drawn = []
    if "writers" in kept:
        drawn.append(save(writers(kept["writers"]["found"]["cells"]), folder / "writers.svg"))
    if "latency" in kept:
        drawn.append(save(latency(kept["latency"]["found"]["cells"]), folder / "latency.svg"))
    return drawn


def writers(cells: list[Mapping[str, Any]]) -> Any:
    """Draw transactions per second, a group of bars for each number of clients, a field for each flush."""
    single = [cell for cell in cells if cell["rows"] == 1 and cell["flush"] != "very slow"]
    flushes = list(dict.fromkeys(cell["flush"] for cell in single))
    drawing, fields = plt.subplots(1, len(flushes), figsize=(9.5, 3.8), squeeze=False)
    for axes, flush in zip(fields[0], flushes, strict=True):
        group = [cell for cell in single if cell["flush"] == flush]
        names = list(group[0]["tps"])
        for number, name in enumerate(names):
            figures = [figure(cell["tps"][name]) for cell in group]
            middles = [each.median for each in figures]
            spans = [
                [m - min(each.values) for m, each in zip(middles, figures, strict=True)],
                [max(each.values) - m for m, each in zip(middles, figures, strict=True)],
            ]
            places = [at + (number - (len(names) - 1) / 2) * 0.16 for at in range(len(group))]
            bars = axes.bar(places, middles, 0.15, yerr=spans, color=COLOURS[number], label=name)
            bars.errorbar.lines[2][0].set_linewidth(0.8)
        axes.set_xticks(range(len(group)), [str(cell["clients"]) for cell in group])
        axes.set(title=f"{flush} flush", xlabel="clients", ylabel="one-row UPDATEs per second")
        plain(axes)
    handles, labels = fields[0][0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=9)
    drawing.tight_layout(rect=(0, 0.07, 1, 1))
    return drawing


def latency(cells: list[Mapping[str, Any]]) -> Any:
    """Draw p50 and p99 by rate; what does not keep up is drawn hollow."""
    drawing, axes = plt.subplots(figsize=(7, 3.8))
    names = list(cells[0]["blocks"])
    for number, name in enumerate(names):
        colour = COLOURS[4] if number == 0 else COLOURS[2]
        for p, style in (("p50", "-"), ("p99", "--")):
            points = [
                (at, figure([each[p] for each in cell["blocks"][name]]).median, kept_up(cell["blocks"][name]))
                for at, cell in enumerate(cells)
                if all(each[p] is not None for each in cell["blocks"][name])
            ]
            axes.plot([at for at, *_ in points], [ms for _, ms, _ in points], style, color=colour, label=f"{name}, {p}")
            for at, ms, well in points:
                axes.plot([at], [ms], "o", color=colour, markerfacecolor=colour if well else "white", markersize=5)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(range(len(cells)), [f"{cell['rate']}/s" if cell["rate"] else "idle" for cell in cells])
    axes.set(xlabel="changes (hollow: does not keep up)", ylabel="ms from commit to subscriber")
    axes.legend(frameon=False, fontsize=9)
    plain(axes)
    drawing.tight_layout()
    return drawing


def plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def save(drawing: Any, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    drawing.savefig(path, metadata={"Date": None})
    plt.close(drawing)
    return path
