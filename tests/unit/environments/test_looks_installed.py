"""Whether a Python looks installed, as files show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_modelops.environments.interpreters import looks_installed
from pytest_modelops.matrix.cell import PythonVersion


@pytest.mark.parametrize(
    ("place", "variables"),
    [
        ("prefix/bin", {}),
        ("bin", {"PATH": "{tmp}/none:{tmp}/bin"}),
        ("home/.pyenv/versions/3.12.1/bin", {}),
        ("pyenv/versions/3.12.1/bin", {"PYENV_ROOT": "{tmp}/pyenv"}),
        ("home/.local/share/uv/python/cpython-3.12.1/bin", {}),
        ("data/uv/python/cpython-3.12.1/bin", {"XDG_DATA_HOME": "{tmp}/data"}),
        ("uv/cpython-3.12.1/bin", {"UV_PYTHON_INSTALL_DIR": "{tmp}/uv"}),
    ],
)
def test_a_python_is_looked_for_where_a_run_looks(tmp_path: Path, place: str, variables: dict[str, str]) -> None:
    environ = {"HOME": f"{tmp_path}/home", **{name: text.format(tmp=tmp_path) for name, text in variables.items()}}
    version = PythonVersion.parse("3.12")
    assert not looks_installed(version, environ=environ, prefix=tmp_path / "prefix")
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "python3.12").touch()
    assert looks_installed(version, environ=environ, prefix=tmp_path / "prefix")
    assert looks_installed(PythonVersion.parse("3.12.7"), environ=environ, prefix=tmp_path / "prefix")
    assert not looks_installed(PythonVersion.parse("3.13"), environ=environ, prefix=tmp_path / "prefix")


def test_shims_of_pyenv_are_not_asked_since_its_versions_are(tmp_path: Path) -> None:
    shims, version = tmp_path / "home/.pyenv/shims", PythonVersion.parse("3.12")
    shims.mkdir(parents=True)
    (shims / "python3.12").touch()
    environ = {"HOME": f"{tmp_path}/home", "PATH": str(shims)}
    assert not looks_installed(version, environ=environ, prefix=tmp_path / "prefix")
