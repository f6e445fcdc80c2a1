"""What a part has measured, and what is computed from it: medians, spread, ratios, and their table."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Figures:
    """One quantity of several sides.

    Attributes:
        samples: by side, one value a round. Sides with equally many values were measured in the same rounds.
        bases: by side, the sides that it is compared with.
    """

    title: str
    unit: str
    samples: Mapping[str, Sequence[float]]
    bases: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def median(self, side: str) -> float:
        return statistics.median(self.samples[side])


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Attributes:
    value: of the medians.
    low: the least of a round; equal to `value` if the sides were not measured in the same rounds.
    """

    base: str
    value: float
    low: float
    high: float


def ratios(figures: Figures, side: str) -> list[Ratio]:
    """Compare a side with each of its bases that was measured and is not zero."""
    found = []
    for base in figures.bases.get(side, ()):
        ours, theirs = figures.samples[side], figures.samples.get(base, ())
        if theirs and all(theirs):
            value = figures.median(side) / figures.median(base)
            rounds = [one / other for one, other in zip(ours, theirs, strict=False)]
            low, high = (min(rounds), max(rounds)) if len(ours) == len(theirs) else (value, value)
            found.append(Ratio(base, value, low, high))
    return found


def shown(value: float) -> str:
    """Three digits, or thousandths: `112`, `27.0`, `3.14`, `0.042`."""
    digits = next((digits for digits, above in ((0, 99.95), (1, 9.995), (2, 0.9995)) if value >= above), 3)
    return f"{value:.{digits}f}"


def rows(figures: Figures) -> list[tuple[str, ...]]:
    """The table's rows, the titles first; ratios only if a side has a base."""
    counts = {len(values) for values in figures.samples.values()}
    of = f" of {counts.pop()}" if len(counts) == 1 else ""
    titles = ("", f"median{of}, {figures.unit}", "least to greatest", "ratio of medians (of each round)")
    lines = []
    for side, values in figures.samples.items():
        compared = "; ".join(f"{r.value:.2f} ({r.low:.2f} to {r.high:.2f}) × {r.base}" for r in ratios(figures, side))
        lines.append((side, shown(figures.median(side)), f"{shown(min(values))} to {shown(max(values))}", compared))
    width = 4 if any(line[3] for line in lines) else 3
    return [line[:width] for line in (titles, *lines)]


def as_text(figures: Figures) -> str:
    """The table for a terminal."""
    table = rows(figures)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join((figures.title, *lines))


def as_markdown(figures: Figures) -> str:
    """The table for the docs."""
    titles, *lines = rows(figures)
    ruler = ("---", *("--:" for _ in titles[1:3]), *("---" for _ in titles[3:]))
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, ruler, *lines))


@dataclasses.dataclass(frozen=True)
class Part:
    """The figures of one run of a part, and where and when it ran."""

    date: str
    machine: str
    figures: Sequence[Figures]

    @classmethod
    def measured_here(cls, figures: Sequence[Figures]) -> Part:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        machine = f"{cores} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
        return cls(time.strftime("%Y-%m-%d"), machine, figures)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Part:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**fields, "figures": [Figures(**one) for one in fields["figures"]]})
