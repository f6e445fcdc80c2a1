"""The HTML report in a real browser: what a click opens, links, filters, paper, and that nothing keeps anybody out."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.matrix.plan import LeftOut
from pytest_modelops.report import html
from pytest_modelops.report.comparing import compare
from pytest_modelops.report.model import RunReport, Status
from tests.browser import HOW_TO, Browser, chromium
from tests.unit.report.made import STACK, broken, cell, check, run

ROOT = Path(__file__).parents[3]
AXE = ROOT / "node_modules/axe-core/axe.min.js"
RED = "cell-py3.13-dask2026.8.0"
VIOLATIONS = """
axe.run(document, {resultTypes: ["violations"]}).then((found) => found.violations.map(
  (one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`))
"""

DIAGNOSIS = {
    "cause": "worker-0 (pid 7) does not answer.",
    "processes": [
        {"name": "scheduler", "pid": 6, "state": "sleeping"},
        {
            "name": "worker-0",
            "pid": 7,
            "state": "running",
            "memory": 3 << 20,
            "last_seen": 2.5,
            "tasks": 1,
            "deaths": ["x"],
        },
    ],
    "counts": {"processing": 1},
    "tasks": [{"key": "fit-1", "state": "processing", "worker": "worker-0", "waits_for": ["load-1"]}],
    "directory": "~/cache/diagnosis-1",
}


def a_report() -> RunReport:
    """Passed cells, broken ones of two causes and a skew cell, with everything that a page can show."""
    facts = {"python": "3.13.0", "packages": {"msgpack": "1.2.0"}}
    observed = {"client": {**facts, "python": "3.12.1"}, "scheduler": facts, "workers": {"tcp://1": facts}}
    seir = (check("handshake", bundle="seir"), check("note", message="only a note"))
    environment = {"python": "3.13", "dask": "2026.8.0", "reused": False, "seconds": 2.0, "location": "~/env"}
    red = broken(
        "3.13", "2026.8.0", lock={"msgpack": "1.2.0"}, observed=observed, notes=("kept",), logs={"a": "~/a.log"}
    )
    return run(
        *(
            cell(python, dask, check("start"), *seir)
            for python in ("3.11", "3.12")
            for dask in ("2024.8.0", "2026.8.0")
        ),
        cell("3.13", "2024.8.0", environments=(environment,), logs={"worker-0": "logs/a.log"}),
        red,
        broken("3.12", "2026.8.0", name="start", worker="3.13"),
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip(f"there is no Chromium; {HOW_TO}")
    opened = Browser(program, tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html.render(a_report()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def page_of_everything(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Besides, what changed since a baseline, cells known to be broken, missing, not run, and what was left out."""
    known = cell("3.14", "2026.8.0", check("lambda", Status.KNOWN_BROKEN, "as reported (https://a.b/1)\n\nfailed: x"))
    missing = cell("3.14", "2024.8.0", check("report", Status.MISSING, "no report has this cell"))
    hung = cell("3.16", "2026.8.0", check("lambda", Status.TIMED_OUT, "not in time", data={"diagnosis": DIAGNOSIS}))
    not_run = cell("3.15", "2026.8.0", check("start", Status.NOT_RUN, "the run ended before it came to this"))
    report = a_report()
    report = dataclasses.replace(
        report,
        cells=(*report.cells, known, missing, not_run, hung),
        left_out=(LeftOut(id="py3.9-dask1", reason="excluded"),),
    )
    before = run(cell("3.13", "2026.8.0"), broken("3.13", "2024.8.0"), cell("3.10", "2024.8.0"))
    path = tmp_path_factory.mktemp("everything") / "report.html"
    compared = dataclasses.replace(report, comparison=compare(before, report))
    path.write_text(html.render(compared), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, from npm."""
    if AXE.exists():
        return AXE.read_text(encoding="utf-8")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm; to run it: sudo apt-get install npm && npm install --no-save axe-core")
    there = tmp_path_factory.mktemp("npm")
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(there), "axe-core@4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=dict(os.environ))
    if done.returncode != 0:
        pytest.skip(f"axe-core cannot be had ({done.stderr[-200:]}); to run it: npm install --no-save axe-core")
    return (there / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


def shown(browser: Browser, selector: str) -> Any:
    """The texts of the elements that are shown."""
    return browser.run(f"[...document.querySelectorAll({json.dumps(selector)})].filter((one) => one.checkVisibility())"
                       ".map((one) => one.innerText.trim())")  # fmt: skip


def test_a_click_in_the_matrix_opens_the_cell_with_all_that_is_known(browser: Browser, page: str) -> None:
    browser.see()
    browser.open(page)
    assert shown(browser, "h1") == ["✗\n2 of 7 cells broken."]
    assert shown(browser, ".headline") == [], "nothing is parsed before it is opened"
    browser.run(f"document.querySelector('.matrix a[href=\"#{RED}\"]').click()")
    browser.run("new Promise((done) => setTimeout(done, 100))")
    assert shown(browser, ".headline") == [STACK.splitlines()[0]]
    assert shown(browser, f"#{RED.replace('.', chr(92) + '.')} .message pre") == [
        "\n".join(STACK.splitlines()[1:]).strip()
    ]
    assert shown(browser, ".command code") == ["pytest --modelops-matrix -k lambda"]
    assert shown(browser, ".versions .differ th") == ["Python"]
    assert "msgpack\t1.1.0\t1.2.0" in shown(browser, ".versions tbody tr")
    assert [text.split("\n")[1] for text in shown(browser, ".line li")] == ["start", "lambda", "aggregation"]
    assert browser.run("document.activeElement.tagName") == "SUMMARY"
    assert browser.requests == [page], "it asks for nothing else"


def test_a_link_to_a_cell_opens_it(browser: Browser, page: str) -> None:
    browser.open(f"{page}#{RED}")
    assert browser.run("cells.filter((one) => one.open).map((one) => one.id)") == [RED]


@pytest.mark.parametrize(
    ("name", "value", "count"),
    [
        ("status", "passed", 5),
        ("status", "failed", 2),
        ("bundle", "seir", 4),
        ("cause", "start", 1),
        ("text", "3.13", 3),
    ],
)
def test_filters_leave_what_fits(browser: Browser, page: str, name: str, value: str, count: int) -> None:
    browser.open(page)
    browser.run(f"form.elements.{name}.value = {value!r}; form.dispatchEvent(new Event('input'))")
    assert len(shown(browser, "details.cell")) == count
    assert shown(browser, "output") == [f"{count} of 7 cells"]


def test_on_paper_what_broke_is_open(browser: Browser, page: str) -> None:
    browser.open(page)
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert len(shown(browser, ".headline")) == 2
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert shown(browser, ".headline") == []
    assert browser.send("Page.printToPDF")["data"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_it_keeps_nobody_out(browser: Browser, page_of_everything: str, axe: str, scheme: str, width: int) -> None:
    browser.see(width=width, scheme=scheme)
    browser.open(page_of_everything)
    assert len(shown(browser, ".changes li")) > 3
    browser.run("for (const one of cells) { one.open = true; fill(one); }")
    browser.run(f"{axe};0")
    assert browser.run(VIOLATIONS) == []
    hung = browser.run("[...document.querySelectorAll('.plain li')].map((one) => one.textContent)")
    assert "scheduler (pid 6): sleeping" in hung
    assert "worker-0 (pid 7): running, 1 task, 3 MiB, last heartbeat 2.5 s before, deaths: 1 (x)" in hung
    assert "fit-1: processing on worker-0, waits for load-1" in hung
    assert browser.run("document.documentElement.scrollWidth") == width, "nothing is wider than the window"


def test_a_page_of_a_thousand_cells_parses_only_what_is_opened(browser: Browser, tmp_path: Path) -> None:
    many = run(*(cell(f"3.{python}", f"2024.{dask}.0") for python in range(25) for dask in range(40)))
    (tmp_path / "many.html").write_text(html.render(many), encoding="utf-8")
    browser.see()
    browser.open((tmp_path / "many.html").as_uri())
    assert browser.run("cells.length") == 1000
    assert browser.run("document.querySelectorAll('.line').length") == 0
    browser.run("cells[999].open = true; fill(cells[999])")
    assert browser.run("document.querySelectorAll('.line').length") == 1
