"""`python -m pytest_modelops bisect` on real cells: a bad package among several.

Both ends are real runs, of which the second finds newer releases. A preload breaks `start` for one of them. What else
can break a cell, such as a pair of packages, and how few cells find one among 25 are in tests/unit/session.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_modelops.environments.index import configured_index
from tests.forking import Template
from tests.integration.conftest import NOT_USED, Matrix, WriteWheel, shared_cache

COUNT = 4
RELEASES = ("1", "2")
PRELOAD = """
from importlib.metadata import version


def dask_setup(worker):
    if version("modelops_planted_2") == "2":
        raise OSError("no ledger")
"""


class Project(Matrix):
    """A project whose environment has packages of which there are two releases."""

    def plant(self, write_wheel: WriteWheel) -> None:
        """Make the packages, and a preload of the worker that raises if one of them is new."""
        names = [f"modelops_planted_{number}" for number in range(COUNT)]
        for release in RELEASES:
            (self.path / release).mkdir()
            for name in names:
                write_wheel(self.path / release / f"{name}-{release}-py3-none-any.whl", {f"{name}.py": ""})
        self.write("preload.py", PRELOAD)
        self.configure(
            f'[tool.modelops]\nworkers = 1\nstart = "fork-workers"\n'
            f'[tool.modelops.matrix]\npython = "{platform.python_version()}"\n'
            f'[tool.modelops.environment]\nrequirements = {names}\nworker-args = ["--preload", "preload.py"]\n'
        )

    def ends(self) -> tuple[Path, str]:
        """Run both ends, and return the report of the green one and the cell's id."""
        self.run("-k", "start", env=self._finding(1)).passed()
        report = self.path / "green.json"
        shutil.copy(self.path / "report.json", report)
        red = self.run("-k", "start", env=self._finding(2))
        assert red.check("start").status == "failed", red.out
        return report, str(red.cell().facts["id"])

    def bisect(self, cell: str, baseline: Path) -> tuple[int, str]:
        """Return exit code and output."""
        without = {"PYTEST_ADDOPTS": " ".join(f"-pno:{name}" for name in NOT_USED if name != "cacheprovider")}
        finished = subprocess.run(
            [sys.executable, "-m", "pytest_modelops", "bisect", cell, "--baseline", str(baseline)],
            cwd=self.path,
            env={**os.environ, **self._variables(), **self._finding(2), **without},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert not finished.stderr, finished.stderr
        return finished.returncode, finished.stdout

    def _finding(self, releases: int) -> dict[str, str]:
        """Return variables with which uv finds these releases beside what the user's index has."""
        index = configured_index(self.path).variables
        others = os.environ.get("UV_FIND_LINKS") or index.get("UV_FIND_LINKS", "")
        places = [others, *(str(self.path / release) for release in RELEASES[:releases])]
        return {**index, "UV_FIND_LINKS": ",".join(filter(None, places))}


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[Project]:
    cache = shared_cache(tmp_path_factory)
    with contextlib.closing(Project(tmp_path / "project", cache, template=template)) as made:
        yield made


def test_a_bad_package_among_several_is_found(project: Project, write_wheel: WriteWheel) -> None:
    project.plant(write_wheel)
    baseline, cell = project.ends()
    code, out = project.bisect(cell, baseline)
    assert code == 0, out
    assert f"They differ in {COUNT} changes:" in out
    assert "verdict: modelops-planted-2 1 → 2 turns start red: red twice with it, green twice without it" in out
    steps = re.findall(r"^step \d+ .*: (green|red|unresolved)\b", out, re.MULTILINE)
    assert len(steps) <= 6, out
    assert "OSError: no ledger" in out

    evidence = Path(out.rpartition("evidence: ")[2].strip())
    assert (evidence / "bisect.txt").read_text(encoding="utf-8") == out
    last = json.loads((evidence / f"step-{len(steps):02}" / "report.json").read_text(encoding="utf-8"))
    assert [one["id"] for one in last["cells"]] == [cell]
    kept = [json.loads(file.read_text("utf-8")) for file in project.cache.glob("runs/*/report.json")]
    assert len([one for one in kept if one["configuration"] == str(project.path / "pyproject.toml")]) == 2
