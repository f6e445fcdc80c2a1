"""The Python of the README and the reference, run on a cell as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

ROOT = Path(__file__).parents[2]


def python_of(name: str) -> str:
    """The only block of Python of a file."""
    text = (ROOT / name).read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(block)


def test_the_test_of_the_readme_and_the_check_of_the_reference(project: Project) -> None:
    project.configure(f'[tool.modelops.matrix]\npython = "{project.series}"\n')
    test = python_of("README.md")
    # Fewer tasks: that there may be thousands is tested in tests/integration/test_healthy_cells.py.
    for stands, instead in (('"py3.13-*"', f'"py{project.series}-*"'), ("replicates=200", "replicates=20")):
        assert stands in test
        test = test.replace(stands, instead)
    project.write("tests/test_upgrade.py", test)
    project.write("conftest.py", python_of("docs/reference.md"))
    (project.path / "bundles").symlink_to(ROOT / "fixtures" / "bundles")
    ran = project.matrix("-k", "sqlite or upgrade")
    assert ran.code == 0, ran.out
    cell = f"py{project.series}-dask{project.dask}"
    assert ran.results == dict.fromkeys(
        [f"modelops::test_sqlite[{cell}]", f"tests/test_upgrade.py::test_upgrade[{cell}]"], "PASSED"
    )
