"""Six formats × two ways to install, in processes and in containers: all green, and no module is lost.

In one run for each backend. What is wrong with a format is told by `test_bundle_formats.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import filelock
import pytest

from tests.integration.conftest import ContainerMatrix, Matrix, write_wheel

FORMATS = Path(__file__).parents[2] / "fixtures" / "formats"
IMPORTS = {
    "requirements": "tomli",
    "pure_python": "shapes.area",
    "packaged": "testpkg",
    "existing_wheels": "wheeled.core",
    "mixed": "mixedpkg",
    "nested": "helpers.reading",
}
"""One thing that a user of each format imports."""
WAYS = ("isolated", "workers")


def ship(folder: Path) -> str:
    """Make every format twice, since a bundle has one way to install; the configuration that ships them."""
    lines = []
    for name, module in IMPORTS.items():
        for way in WAYS:
            bundle = folder / f"{name}-{way}"
            if name == "existing_wheels":
                (bundle / "vendor").mkdir(parents=True)
                files = {"wheeled/__init__.py": "", "wheeled/core.py": "VALUE = 42\n"}
                write_wheel(bundle / "vendor" / "wheeled-1.0-py3-none-any.whl", files)
            else:
                shutil.copytree(FORMATS / name, bundle)
            lines.append(f'  {{ path = "{bundle}", imports = ["{module}"], install = "{way}" }},')
    cell = '[tool.modelops.matrix]\npython = ["3.12"]\ndask = ["2024.10.0"]\n'
    return "\n".join(["[tool.modelops]", "bundles = [", *lines, "]", cell])


@pytest.fixture(scope="module", params=["process", "docker"])
def statuses(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, dict[str, Any]]:
    """Bundle → its checks by rung, from one run for each backend."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    engine = request.getfixturevalue("engine") if request.param == "docker" else None
    kept = shared / f"formats-on-{request.param}.json"
    with filelock.FileLock(kept.with_suffix(".lock")):
        if not kept.exists():
            folder, cache = tmp_path_factory.mktemp("formats-on"), shared / "shared" / "cache"
            project = folder / "project"
            matrix = ContainerMatrix(project, cache, engine) if engine is not None else Matrix(project, cache)
            try:
                matrix.configure(ship(folder))
                run = matrix.start("-k", "preflight or bundle_install or handshake").ended(seconds=600)
                assert run.report, run.out
                kept.write_text(json.dumps(run.report), encoding="utf-8")
            finally:
                matrix.close()
    [cell] = json.loads(kept.read_text(encoding="utf-8"))["cells"]
    if cell["status"] == "unavailable":
        pytest.skip("there is no Python 3.12 on this machine")
    found: dict[str, dict[str, Any]] = {}
    for check in cell["checks"]:
        if check["bundle"]:
            found.setdefault(check["bundle"], {})[check["name"]] = check
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", IMPORTS)
def test_a_format_installs_in_every_way(statuses: dict[str, dict[str, Any]], name: str, way: str) -> None:
    checks = statuses[f"{name}-{way}"]
    rungs = ["preflight", "bundle-install", *(["handshake"] if way == "isolated" else [])]
    assert [checks[rung]["status"] for rung in rungs] == ["passed"] * len(rungs), checks
