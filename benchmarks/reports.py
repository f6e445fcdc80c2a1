"""Reports of 1, 100 and 1,000 cells: how long each takes to write, its size, and how long the page takes to open.

    python -m benchmarks.reports [--rounds 5]

A cell has 16 checks, two bundles, 40 packages and 8 logs; one of 50 is broken. Opening needs Chromium: until the page
is loaded and drawn, in a window of 1280 × 900.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.measuring import Options, cells, main
from pytest_modelops.report import write
from pytest_modelops.report.model import RunReport, Status
from pytest_modelops.report.targets import FORMATS
from tests.browser import Browser, chromium
from tests.unit.report.made import broken, cell, check, run

COUNTS = (1, 100, 1000)
CHECKS = ("resolve", "install", "start", "versions", "lambda", "aggregation")
BUNDLE_CHECKS = ("preflight", "bundle-install", "handshake", "execute", "bundle-aggregation")
LOCK = {f"package-{number}": f"{number}.0" for number in range(40)}
LOGS = {f"worker-{number}": f"logs/a/worker-{number}.log" for number in range(8)}
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"


def report_of(count: int) -> RunReport:
    of_bundles = [check(name, bundle=bundle) for name in BUNDLE_CHECKS for bundle in ("numbers", "seir")]
    green = [*map(check, CHECKS), *of_bundles]
    made = []
    for number in range(count):
        python, dask = f"3.{number % 25}", f"2024.{number // 25}.0"
        if number % 50 == 49:
            made.append(broken(python, dask, lock={**LOCK, "package-0": "1.0"}, logs=LOGS))
        else:
            made.append(cell(python, dask, *green, lock=LOCK, logs=LOGS))
    assert made[0].status is Status.PASSED
    return run(*made)


def measure(options: Options, directory: Path) -> list[Figures]:
    program = chromium()
    browser = Browser(program, directory / "browser") if program else None
    reports = {count: report_of(count) for count in COUNTS}
    seconds: dict[str, list[float]] = {}
    sizes: dict[str, list[float]] = {}
    opened: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for count, report in reports.items():
            for ending in FORMATS:
                side, path = f"{cells(count)}, {ending}", directory / f"{count}{ending}"
                began = time.perf_counter()
                write(report, path)
                seconds.setdefault(side, []).append(time.perf_counter() - began)
                sizes.setdefault(side, []).append(path.stat().st_size / 1024)
            if browser is not None:
                browser.open((directory / f"{count}.html").as_uri())
                opened.setdefault(cells(count), []).append(float(browser.run(DRAWN)) / 1000)
        print(f"  round {number + 1}", flush=True)
    if browser is None:
        print("  the page is not opened: there is no Chromium", flush=True)
    else:
        browser.close()
    found = [Figures("Writing a report", "s", seconds), Figures("Size of a report", "KiB", sizes)]
    return found + ([Figures("Opening the page", "s", opened)] if opened else [])


if __name__ == "__main__":
    main("reports", measure)
