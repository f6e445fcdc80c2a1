"""Which file has the settings, and what is refused because it would be a guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_modelops.config.file import ConfigFile, named, nearest
from pytest_modelops.errors import WrongInput


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def found(start: Path, *otherwise: Path) -> ConfigFile:
    return nearest(start, otherwise=otherwise, directory=start)


def refusal(start: Path, *otherwise: Path) -> str:
    with pytest.raises(WrongInput) as raised:
        found(start, *otherwise)
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.fixture
def monorepo(tmp_path: Path) -> Path:
    """Two services with a table, a library without one, and a table at the top."""
    write(tmp_path / "pyproject.toml", "[tool.modelops]\nworkers = 1\n[tool.pytest.ini_options]\n")
    for number, service in enumerate(["sim", "fit"]):
        write(tmp_path / f"services/{service}/pyproject.toml", f"[tool.modelops]\nworkers = {number + 5}\n")
        (tmp_path / f"services/{service}/tests").mkdir()
    write(tmp_path / "libs/core/pyproject.toml", "[project]\nname = 'core'\n")
    return tmp_path


@pytest.mark.parametrize(
    ("start", "file", "origin"),
    [
        (".", "pyproject.toml", "pyproject.toml"),
        ("services", "pyproject.toml", "../pyproject.toml"),
        ("services/sim", "services/sim/pyproject.toml", "pyproject.toml"),
        ("services/fit/tests", "services/fit/pyproject.toml", "../pyproject.toml"),
        ("libs/core", "pyproject.toml", "../../pyproject.toml"),
    ],
)
def test_the_nearest_file_with_the_table_is_used_and_paths_are_relative_to_it(
    monorepo: Path, start: str, file: str, origin: str
) -> None:
    one = found(monorepo / start, monorepo / "services/sim", monorepo)
    assert one.path == monorepo / file
    assert one.directory == (monorepo / file).parent
    assert one.origin == origin
    assert one.description == str(monorepo / file)


def test_without_a_file_it_says_so_and_how_to_get_one(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "[tool.other]\n")
    one = found(tmp_path, tmp_path)
    assert one.path is None
    assert one.table == {}
    for fact in ("none", str(tmp_path), "[tool.modelops.matrix]", "--modelops-config"):
        assert fact in one.description


def test_a_project_that_only_the_arguments_name_is_not_left_out_silently(tmp_path: Path) -> None:
    file = write(tmp_path / "there/pyproject.toml", "[tool.modelops]\n")
    test = write(tmp_path / "there/tests/test_one.py", "")
    (tmp_path / "here").mkdir()
    message = refusal(tmp_path / "here", test)
    assert str(file) in message
    assert "--modelops-config=../there/pyproject.toml" in message


@pytest.mark.parametrize(
    "header",
    [
        "tool.pytest-modelops",
        "tool.pytest_modelops",
        "tool.pytest-modelops.matrix",
        "tool.ModelOps",
        "tool.model-ops",
        "tool.pytest.modelops",
        "modelops",
        "pytest-modelops.matrix",
    ],
)
def test_a_table_that_looks_like_ours_is_refused_with_the_right_name(tmp_path: Path, header: str) -> None:
    write(tmp_path / "pyproject.toml", "[tool.modelops]\nworkers = 1\n")
    nearer = write(tmp_path / "sub/pyproject.toml", f"[{header}]\nworkers = 3\n").parent
    message = refusal(nearer)
    assert message.startswith("pyproject.toml: [" + header.removesuffix(".matrix") + "] ")
    assert message.endswith("[tool.modelops]")
    write(nearer / "pyproject.toml", f"[{header}]\nworkers = 3\n[tool.modelops]\nthreads = 2\n")
    assert header.removesuffix(".matrix") in refusal(nearer)


@pytest.mark.parametrize("text", ["[tool.modelops-bundle]\n", "[tool.calabaria]\nmodelops = true\n", "[tool.pytest]\n"])
def test_tables_of_other_tools_are_none_of_our_business(tmp_path: Path, text: str) -> None:
    write(tmp_path / "pyproject.toml", text)
    assert found(tmp_path).path is None


def test_a_file_above_that_is_not_valid_is_refused_only_if_it_matters(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "[tool.modelops\n")
    write(tmp_path / "sub/pyproject.toml", "[tool.modelops]\n")
    (tmp_path / "other").mkdir()
    assert found(tmp_path / "sub").path == tmp_path / "sub/pyproject.toml"
    assert refusal(tmp_path / "other").startswith("../pyproject.toml: not valid TOML: ")


def test_a_named_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "ci/nightly.toml", "[tool.modelops]\nworkers = 4\n")
    one = named(path, tmp_path)
    assert (one.path, one.directory, one.table, one.origin) == (path, path.parent, {"workers": 4}, "ci/nightly.toml")


@pytest.mark.parametrize(("text", "why"), [(None, "is not a file"), ("[tool.other]\n", "has no [tool.modelops]")])
def test_a_named_file_without_the_table_is_refused(tmp_path: Path, text: str | None, why: str) -> None:
    path = tmp_path / "nightly.toml"
    if text is not None:
        write(path, text)
    with pytest.raises(WrongInput, match=r"^--modelops-config: ") as raised:
        named(path, tmp_path)
    assert f"{path} {why}" in str(raised.value)
