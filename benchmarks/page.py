"""Draw the plots and the page of the docs from the figures that are there.

    python -m benchmarks.page docs/benchmarks

Needs matplotlib (`pip install -e '.[bench]'`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures, Part, as_markdown
from benchmarks.parts import PARTS

HEAD = """# Benchmarks

What a run costs, beside what one would write by hand. `python -m benchmarks` in a clone measures all of this in one
run and writes this page; `--only NAME` measures one part. Within a part, the sides alternate in rounds, because
machines are shared and their speed changes: compare the ratios, not the seconds. A ratio is that of the medians, with
the least and the greatest of a round.
"""
OURS, OTHERS = "#1f6f8b", "#b8b8b8"
INCH_PER_SIDE = 0.28


def draw(figures: Figures, axes: Any) -> None:
    """Bars of medians, and a dot for each value. What is compared with nothing else is a base, and grey."""
    sides = list(figures.samples)
    colours = [OURS if side in figures.bases or not figures.bases else OTHERS for side in sides]
    axes.barh(sides, [figures.median(side) for side in sides], color=colours, height=0.6)
    for side, values in figures.samples.items():
        axes.plot(values, [side] * len(values), "o", color="#222222", markersize=2.5)
    axes.invert_yaxis()
    axes.set_xlim(left=min(0.0, *map(min, figures.samples.values())))
    axes.set_title(f"{figures.title} ({figures.unit})", loc="left", fontsize=10)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def plot(part: Part, path: Path) -> None:
    """All figures of a part, one below the other, as SVG with its text as paths, which need no font."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": path.name})  # the same figures give the same file
    sizes = [len(figures.samples) + 2.5 for figures in part.figures]
    figure = Figure(figsize=(7.5, INCH_PER_SIDE * sum(sizes)), layout="constrained")
    columns = figure.subplots(len(sizes), squeeze=False, height_ratios=sizes)
    for figures, (axes,) in zip(part.figures, columns, strict=True):
        draw(figures, axes)
    figure.savefig(path, format="svg", metadata={"Date": None})


def section(name: str, part: Part | None, directory: Path) -> str:
    title, what = PARTS[name]
    lines = [f"## {title}", what]
    if part is None:
        return "\n\n".join([*lines, "Not measured.\n"])
    lines.append(f"{part.machine}; {part.date}.")
    lines += [f"{figures.title}:\n\n{as_markdown(figures)}" for figures in part.figures]
    return "\n\n".join([*lines, f"![{title}]({directory.name}/{name}.svg)\n"])


def write(directory: Path) -> None:
    """Write a plot for each part, and the page beside the directory."""
    sections = []
    for name in PARTS:
        kept = directory / f"{name}.json"
        part = Part.read(kept) if kept.exists() else None
        if part is not None:
            plot(part, directory / f"{name}.svg")
        sections.append(section(name, part, directory))
    directory.with_suffix(".md").write_text("\n".join([HEAD, *sections]), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
