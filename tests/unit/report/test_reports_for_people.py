"""What people read of a run: the verdict in one sentence, Markdown to paste, what GitHub shows, and the page's text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings

from pytest_modelops.matrix.plan import LeftOut
from pytest_modelops.report import github, html, markdown, write
from pytest_modelops.report.changes import Drift
from pytest_modelops.report.differences import drift, nearest, passed_cells, versions_by_role
from pytest_modelops.report.model import CellReport, RunReport, Status
from pytest_modelops.report.targets import FORMATS
from pytest_modelops.report.verdict import sentence
from tests.unit.report.made import STACK, broken, cell, check, run
from tests.unit.report.test_report_json import reports

NOT_RUN = cell("3.14", "2024.10.0", check("start", Status.NOT_RUN, "the run ended before it came to this"))
IN_PART = cell("3.12", "2024.8.0", check("start"), check("lambda", Status.NOT_RUN, selected=False))


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        (run(), "No cell was run."),
        (run(cell()), "The cell passed."),
        (run(cell(), cell("3.13")), "All 2 cells passed."),
        (run(cell(), IN_PART), "All 2 cells passed, 1 only in part."),
        (run(cell(), NOT_RUN), "1 of 2 cells passed; 1 not run."),
        (run(broken()), "1 of 1 cell broken; lambda failed."),
        (run(cell(), broken()), "1 of 2 cells broken, with Python 3.13; lambda failed."),
        (
            run(cell(), broken(), broken(dask="2026.8.0")),
            "2 of 3 cells broken, both with Python 3.13; lambda failed.",
        ),
        (
            run(cell(), cell("3.13"), broken("3.12", worker="3.13"), broken("3.11", worker="3.13", name="start")),
            "2 of 4 cells broken, both with roles that differ in their versions.",
        ),
        (
            run(cell(), broken("3.12", "2026.8.0"), broken("3.13"), NOT_RUN),
            "2 of 4 cells broken; lambda failed; 1 not run.",
        ),
    ],
)  # fmt: skip
def test_the_verdict_is_one_sentence(report: RunReport, verdict: str) -> None:
    assert sentence(report) == verdict


def test_versions_of_the_roles_are_side_by_side() -> None:
    observed = {
        "client": {"python": "3.12.1", "packages": {"msgpack": "1.1.0", "lz4": None}},
        "scheduler": {"python": "3.12.1", "packages": {"msgpack": "1.1.0", "lz4": None}},
        "workers": {
            "a": {"python": "3.13.0", "packages": {"msgpack": "1.1.0", "lz4": None}},
            "b": {"python": "3.13.1", "packages": {"msgpack": "1.1.0", "lz4": "4.4"}},
        },
    }
    python, msgpack, lz4 = versions_by_role(cell(observed=observed))
    assert python.of_role == {"client": "3.12.1", "scheduler": "3.12.1", "worker": "3.13.0, 3.13.1"}
    assert (python.differ, msgpack.differ, lz4.differ) == (True, False, True)
    planned = versions_by_role(cell(worker="3.13"))
    assert [(one.name, one.differ) for one in planned] == [("Python", True), ("Dask", False)]


def test_the_nearest_cell_that_passed_has_the_fewest_other_versions() -> None:
    red = broken(lock={"msgpack": "1.2.0", "zict": "3.0"})
    near, far = cell("3.12"), cell("3.11", "2024.8.0")
    assert nearest(red, passed_cells([far, red, near])) is near
    assert drift(near, red) == (Drift("msgpack", "1.1.0", "1.2.0"), Drift("zict", None, "3.0"))
    assert nearest(red, passed_cells([red])) is None
    assert drift(cell(lock={}), CellReport(id="x", python="3.12", dask="1")) == ()


def test_markdown_is_a_matrix_to_paste_and_what_broke() -> None:
    left = (LeftOut(id="py3.14-dask2024.8.0", reason="excluded"),)
    red = broken(lock={"msgpack": "1.2.0"}, message="a | b\n```\nmore")
    text = markdown.render(run(cell(), red, cell(worker="3.13"), NOT_RUN, left_out=left))
    assert text.startswith("**1 of 4 cells broken, with Python 3.13; lambda failed; 1 not run.**\n\n| Python | Dask |")
    assert "| 3.12 | 2024.10.0 | ✅ passed | |\n" in text
    assert "| 3.13 | 2024.10.0 | ❌ `lambda` failed | a &#124; b |\n" in text
    assert "| 3.12, worker 3.13 | 2024.10.0 | ✅ passed | |\n" in text
    assert "| 3.14 | 2024.10.0 | ⚠️ not run | the run ended before it came to this |\n" in text
    assert "````text\na | b\n```\nmore\n````" in text, "a fence that the message does not close"
    assert "the nearest cell that passed, py3.12-dask2024.10.0+worker-py3.13: `msgpack 1.1.0 → 1.2.0`" in text
    assert "pytest --modelops-matrix -k lambda" in text
    assert "- py3.14-dask2024.8.0: excluded" in text


def test_markdown_mentions_nobody_and_no_issue() -> None:
    text = markdown.render(run(broken(message="see @somebody #12 <b> [x](y)")))
    row = next(line for line in text.splitlines() if line.startswith("| 3.13"))
    assert "@somebody" not in row
    assert "#12" not in row
    assert "<b>" not in row
    assert "[x]" not in row


def test_github_gets_an_annotation_for_each_broken_cell_at_its_line(tmp_path: Path) -> None:
    report = run(
        cell(), broken(message="50% of it\nsecond"), NOT_RUN, configuration=str(tmp_path / "sim/pyproject.toml")
    )
    (line,) = github.commands(report, tmp_path)
    assert line == (
        "::error file=sim/pyproject.toml,line=7,title=py3.13-dask2024.10.0%3A lambda failed::"
        "50%25 of it%0Asecond%0A%0Apytest --modelops-matrix -k lambda"
    )


def test_githubs_summary_is_added_and_never_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary"
    summary.write_text("before\n")
    github.append_summary(run(cell()), summary)
    assert summary.read_text().startswith("before\n**The cell passed.**")
    monkeypatch.setattr(github, "LARGEST", 2000)
    github.append_summary(run(*(broken(dask=f"2024.{number}.0") for number in range(20))), summary)
    assert len(summary.read_bytes()) <= 2000
    assert summary.read_text().endswith("GitHub shows no larger summary.\n")


def test_the_page_shows_markup_in_messages_as_text() -> None:
    evil = "</script><script>alert(1)</script><!--next-->"
    page = html.render(run(cell(), broken(message=f"{evil}\n{evil}", lock={evil: "1"})))
    assert "alert(1)</script>" not in page
    assert page.count("</script>") == 2
    assert page.count("<!--next-->") == 3, "one after each cell, and one in the script"
    assert page.startswith("<!doctype html>")
    assert STACK.splitlines()[0] not in page


@settings(max_examples=50)
@given(reports)
def test_everything_can_be_drawn(report: RunReport) -> None:
    for draw in (html.render, markdown.render, lambda one: "".join(github.commands(one, Path("/")))):
        assert draw(report).encode(errors="backslashreplace") is not None


def test_output_that_is_not_text_does_not_cost_a_report(tmp_path: Path) -> None:
    odd = run(broken(message="caf\udce9\nmore"))
    for ending in FORMATS:
        write(odd, tmp_path / f"odd{ending}")
        assert "caf\\udce9" in (tmp_path / f"odd{ending}").read_text(encoding="utf-8").replace("\\\\", "\\")
    github.append_summary(odd, tmp_path / "summary")


def test_the_page_puts_what_broke_first_and_links_to_each_cell() -> None:
    page = html.render(run(cell(), broken(), cell("3.12", "latest or >=2024,<2025")))
    assert page.index('id="cell-py3.13-dask2024.10.0"') < page.index('id="cell-py3.12-dask2024.10.0"')
    assert 'href="#cell-py3.12-dasklatest%20or%20%3E%3D2024%2C%3C2025"' in page
    assert 'id="cell-py3.12-dasklatest%20or%20%3E%3D2024%2C%3C2025"' in page
