"""Reports that tests make: cells with a check that broke, with locks, logs and facts of their processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_modelops.report.model import CellReport, CheckResult, RunReport, Status

STACK = 'worker-0 left the cluster: killed by signal 11 <segfault>\nCurrent thread:\n  File "a.py", line 2 in <lambda>'


def check(name: str, status: Status = Status.PASSED, message: str = "", **fields: Any) -> CheckResult:
    reproduce = f"pytest --modelops-matrix -k {name}" if status is not Status.PASSED else ""
    return CheckResult(name=name, status=status, message=message, **{"seconds": 1.5, "reproduce": reproduce, **fields})


def cell(
    python: str = "3.12",
    dask: str = "2024.10.0",
    *checks: CheckResult,
    worker: str = "",
    lock: Mapping[str, str] | None = None,
    **fields: Any,
) -> CellReport:
    """A cell; without checks, one in which `start` and `lambda` passed."""
    base = {"python": python, "dask": dask}
    packages = {"dask": dask, "msgpack": "1.1.0", **(lock or {})}
    return CellReport(
        id=f"py{python}-dask{dask}" + (f"+worker-py{worker}" if worker else ""),
        python=python,
        dask=dask,
        roles={"client": base, "scheduler": base, "worker": {**base, "python": worker or python}},
        checks=checks or (check("start"), check("lambda")),
        lock=tuple(f"{name}=={version}" for name, version in packages.items()),
        **{"seconds": 3.0, "line": 7, **fields},
    )


def broken(
    python: str = "3.13", dask: str = "2024.10.0", name: str = "lambda", message: str = STACK, **fields: Any
) -> CellReport:
    """A cell that broke at a check, by which another one is blocked."""
    follower = check("aggregation", Status.BLOCKED, f"blocked by {name}", blocked_by=name)
    return cell(python, dask, check("start"), check(name, Status.FAILED, message), follower, **fields)


def run(*cells: CellReport, **fields: Any) -> RunReport:
    return RunReport(
        **{
            "started": "2026-11-20T10:00:00+00:00",
            "seconds": 41.3,
            "host": {"python": "3.12.1", "pytest_modelops": "0.1.0"},
            "configuration": "~/sim/pyproject.toml",
            "backend": "process",
            **fields,
        },
        cells=cells,
    )
