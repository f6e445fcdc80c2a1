"""What the docs say is broken by a test is: each row of their tables names a test that exists, and files that do."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = sorted(ROOT.glob("tests/**/test_*.py"))
FILES = ("docs/cascade.md", "docs/bundles.md")
NAMED = re.compile(r"`(?P<file>\w+\.py)?::(?P<test>test_\w+)`")
"""`file.py::test_name`, or `::test_name` for one more of the same file."""
BROKEN_BY = re.compile(r"(?<!a )`(\w+\.py)`")
"""A file of ours; `a` stands before one that the test writes."""
SAME = "the same"


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        place: the file and the number of the line.
        cells: text by the column's title.
    """

    place: str
    cells: dict[str, str]


def rows_of(name: str, text: str) -> Iterator[Row]:
    """Every row of every table; raises `AssertionError` for one that has not its table's columns."""
    titles: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("|"):
            titles = []
            continue
        cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if not titles:
            titles = cells
        elif set("".join(cells)) != {"-"}:
            place = f"{name}:{number}"
            assert len(cells) == len(titles), f"{place}: {len(cells)} cells in a table of {len(titles)} columns"
            yield Row(place, dict(zip(titles, cells, strict=True)))


def named_in(cell: str) -> list[tuple[str, str]]:
    """The tests that a cell names, as file and name."""
    found, file = [], ""
    for match in NAMED.finditer(cell):
        file = match["file"] or file
        found.append((file, match["test"]))
    return found


def places_of(file: str, test: str) -> list[str]:
    """The directories of tests in which a file of that name has a test of that name."""
    files = [path for path in TESTS if path.name == file]
    return [
        path.relative_to(ROOT / "tests").parts[0]
        for path in files
        if f"\ndef {test}(" in path.read_text(encoding="utf-8")
    ]


def wrong(rows: list[Row]) -> Iterator[str]:
    """What is wrong with what rows say of tests and peers, in words."""
    before = ""
    for row in rows:
        cell = row.cells.get("test", "")
        named = named_in(before if cell == SAME else cell)
        before = before if cell == SAME else cell
        if not named:
            yield f"{row.place}: {cell!r} names no test, as `file.py::test_name`"
        places = {(file, test): places_of(file, test) for file, test in named}
        for (file, test), found in places.items():
            if not found:
                yield f"{row.place}: there is no {file}::{test}"
        if named and not any("integration" in found for found in places.values()):
            yield f"{row.place}: {cell!r} names no test on a real cell"
        for file in BROKEN_BY.findall(row.cells.get("broken by", "")):
            if not any(found for directory in ("tests", "fixtures") for found in (ROOT / directory).rglob(file)):
                yield f"{row.place}: there is no {file}"
        if bare := re.findall(r"`(?:test_)?\w+\.py`", cell):
            yield f"{row.place}: {', '.join(bare)} names a file and no test"


@pytest.mark.parametrize("name", FILES)
def test_each_row_names_a_test_that_exists(name: str) -> None:
    rows = list(rows_of(name, (ROOT / name).read_text(encoding="utf-8")))
    assert len(rows) > 20
    assert list(wrong(rows)) == []


@pytest.mark.parametrize(
    ("cells", "reported"),
    [
        ("| `silent.py` | `test_docs.py` |", "names no test, as"),
        ("| `silent.py` | `test_docs.py::test_nothing_of_the_kind` |", "no test_docs.py::test_nothing_of_the_kind"),
        ("| `silent.py` | `test_no_such.py::test_it` |", "there is no test_no_such.py::test_it"),
        ("| `silent.py` | the same |", "names no test, as"),
        (
            "| `silent.py` | `test_hostile_peers.py::test_a_peer`, `::test_no_such` |",
            "no test_hostile_peers.py::test_no",
        ),
        ("| `silent.py` | `test_docs.py::test_each_row_names_a_test_that_exists` |", "no test on a real cell"),
        ("| `no_such_peer.py` | `test_hostile_peers.py::test_a_peer` |", "there is no no_such_peer.py"),
        ("| `silent.py` | `test_hostile_peers.py::test_a_peer`, `test_docs.py` |", "names a file and no test"),
    ],
)
def test_what_is_wrong_in_a_row_is_found(cells: str, reported: str) -> None:
    rows = list(rows_of("a.md", f"| broken by | test |\n|---|---|\n{cells}\n"))
    assert any(reported in words for words in wrong(rows)), list(wrong(rows))


def test_a_row_with_a_cell_too_few_is_found() -> None:
    with pytest.raises(AssertionError, match=r"a\.md:3: 1 cells in a table of 2 columns"):
        list(rows_of("a.md", "| broken by | test |\n|---|---|\n| `silent.py` |\n"))
