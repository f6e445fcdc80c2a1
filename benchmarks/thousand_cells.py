"""Reports of 1, 100 and 1,000 cells: how long each takes to write, its size, and how long the page takes to open.

    python -m benchmarks.thousand_cells

Opening needs Chromium: until the page is loaded and drawn, in a window of 1280 × 900, the best of three.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from pytest_modelops.report import WRITERS
from pytest_modelops.report.model import RunReport, Status
from tests.browser import Browser, chromium
from tests.unit.report.made import broken, cell, check, run

CHECKS = ("resolve", "install", "start", "versions", "lambda", "aggregation")
BUNDLE_CHECKS = ("preflight", "bundle-install", "handshake", "execute", "bundle-aggregation")
LOCK = {f"package-{number}": f"{number}.0" for number in range(40)}
LOGS = {f"worker-{number}": f"logs/a/worker-{number}.log" for number in range(8)}
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"


def report_of(count: int) -> RunReport:
    """A report with one broken cell of 50; a cell has 16 checks, two bundles, 40 packages and 8 logs."""
    of_bundles = [check(name, bundle=bundle) for name in BUNDLE_CHECKS for bundle in ("numbers", "seir")]
    green = [*map(check, CHECKS), *of_bundles]
    cells = []
    for number in range(count):
        python, dask = f"3.{number % 25}", f"2024.{number // 25}.0"
        if number % 50 == 49:
            cells.append(broken(python, dask, lock={**LOCK, "package-0": "1.0"}, logs=LOGS))
        else:
            cells.append(cell(python, dask, *green, lock=LOCK, logs=LOGS))
    assert cells[0].status is Status.PASSED
    return run(*cells)


def main() -> None:
    program = chromium()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        browser = Browser(program, directory / "browser") if program else None
        for count in (1, 100, 1000):
            report = report_of(count)
            for ending, write in WRITERS.items():
                path = directory / f"{count}{ending}"
                began = time.perf_counter()
                write(report, path)
                print(f"{count} cells, {ending}: {time.perf_counter() - began:.2f} s, {path.stat().st_size:,} bytes")
            if browser is not None:
                opened = []
                for _ in range(3):
                    browser.open((directory / f"{count}.html").as_uri())
                    opened.append(browser.run(DRAWN))
                print(f"{count} cells, opened: {min(opened):.0f} ms")
        if browser is not None:
            browser.close()


if __name__ == "__main__":
    main()
