"""What is computed from measured values, and the page that is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import page
from benchmarks.figures import Figures, Part, as_markdown, as_text, ratios, shown
from benchmarks.parts import PARTS

FIGURES = Figures(
    "One cell",
    "s",
    {"bare": [2.0, 4.0, 2.0], "ours": [1.0, 3.0, 5.0], "once": [1.0], "alone": [112.4, 7.0, 0.0421]},
    {"ours": ["bare", "not measured"], "once": ["bare"]},
)


def test_ratios_are_of_medians_with_the_spread_of_rounds() -> None:
    [ratio] = ratios(FIGURES, "ours")
    assert (ratio.base, ratio.value, ratio.low, ratio.high) == ("bare", 1.5, 0.5, 2.5)
    [ratio] = ratios(FIGURES, "once")
    assert (ratio.value, ratio.low, ratio.high) == (0.5, 0.5, 0.5), "other rounds give no spread"
    assert ratios(FIGURES, "bare") == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(112.4, "112"), (99.96, "100"), (27.04, "27.0"), (9.994, "9.99"), (0.0421, "0.042"), (0, "0.000")],
)
def test_three_digits_are_shown(value: float, text: str) -> None:
    assert shown(value) == text


def test_tables_have_a_column_of_ratios_only_if_there_are_any() -> None:
    lines = as_markdown(FIGURES).splitlines()
    assert lines[0] == "|  | median, s | least to greatest | ratio of medians (of each round) |"
    assert lines[3] == "| ours | 3.00 | 1.00 to 5.00 | 1.50 (0.50 to 2.50) × bare |"
    assert "ratio" not in as_text(Figures("One cell", "s", FIGURES.samples))
    assert "median of 2, s" in as_text(Figures("One cell", "s", {"ours": [1.0, 2.0]}))


def test_the_page_has_what_was_measured_and_says_what_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(page, "plot", lambda part, path: drawn.append(path))
    part = Part.measured_here([FIGURES])
    directory = tmp_path / "benchmarks"
    part.write(directory / "one_cell.json")
    assert Part.read(directory / "one_cell.json") == part
    page.write(directory)
    text = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert text.count("\n## ") == len(PARTS)
    assert text.count("Not measured.") == len(PARTS) - 1
    assert f"{part.machine}; {part.date}." in text
    assert "![One warm cell](benchmarks/one_cell.svg)" in text
    assert drawn == [directory / "one_cell.svg"]
