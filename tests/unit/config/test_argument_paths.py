"""Which arguments of a worker are paths of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_modelops.config import argument_paths
from pytest_modelops.errors import WrongInput


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/on_start.py").touch()
    (tmp_path / "ca.pem").touch()
    (tmp_path / "tcp").touch()
    return tmp_path


def placed(*arguments: str, project: Path) -> list[str]:
    return list(argument_paths.placed(arguments, project, lambda path, name: f"/cell/{name}:{path.name}"))


def test_paths_of_the_project_are_copied_in(project: Path) -> None:
    found = placed("--preload", "deploy/on_start.py", "--tls-ca-file=ca.pem", project=project)
    assert found == [
        "--preload",
        "/cell/worker-args/1/on_start.py:on_start.py",
        "--tls-ca-file=/cell/worker-args/2/ca.pem:ca.pem",
    ]
    [absolute] = placed(f"{project}/deploy/on_start.py", project=project)
    assert absolute.startswith("/cell/")


@pytest.mark.parametrize(
    "argument",
    ["tcp", "--no-dashboard", "acme.preload", "deploy/missing.pem", "/etc/passwd", "https://example.org/a.py", "a=1.5"],
)
def test_everything_else_stays(project: Path, argument: str) -> None:
    assert placed(argument, project=project) == [argument]


@pytest.mark.parametrize(
    "arguments", [("--preload", "deploy/gone.py"), ("--preload=deploy/gone.py",), ("--preload-nanny", "deploy/gone.py")]
)
def test_a_preload_that_is_not_there_is_wrong_input(project: Path, arguments: tuple[str, ...]) -> None:
    with pytest.raises(WrongInput, match=r"'deploy/gone\.py' is not a file \(.*/deploy/gone\.py\)"):
        argument_paths.check(arguments, project)


def test_other_preloads_are_left_to_dask(project: Path) -> None:
    argument_paths.check(("--preload", "deploy/on_start.py", "--preload", "acme.preload"), project)
    argument_paths.check(("--preload", "/image/only.py", "--preload", "https://example.org/x.py"), project)
