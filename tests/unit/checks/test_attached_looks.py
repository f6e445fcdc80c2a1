"""What is concluded from what workers of a deployment say that they have; no process runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import attached_looks
from pytest_modelops.deadline import Deadline
from pytest_modelops.matrix.cell import Cell
from tests.unit.checks.test_checks import HERE


def look(packages: Mapping[str, str | None] = {}, variables: Mapping[str, str | None] = {}) -> dict[str, Any]:
    return {"packages": packages, "origins": {"variables": variables, "settings": {}}, "missing": []}


def cell(env: Mapping[str, str] = {}, *, runner: object = None, secrets: tuple[str, ...] = ()) -> Any:
    hidden = {name: frozenset({"x"}) for name in secrets}
    settings = SimpleNamespace(worker_variables=env, secrets=SimpleNamespace(values=hidden))
    lock = SimpleNamespace(packages={"numpy": Version("2.1")})
    return SimpleNamespace(
        cell=Cell.uniform(HERE),
        cluster=SimpleNamespace(settings=settings),
        environments={HERE: SimpleNamespace(lock=lock)},
        runner=SimpleNamespace(path=runner),
    )


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    looks: dict[str, Any] = {}
    monkeypatch.setattr(attached_looks, "ask", lambda *_, **__: (looks, {}))
    return looks


def test_packages_and_variables_that_differ_between_workers_are_problems(said: dict[str, Any]) -> None:
    env = {"SIZE": "1", "TOKEN": "t", "STORE": "{cell-dir}/store"}
    for number, (version, size, token) in enumerate([("2.1", "1", "t"), ("2.1", "2", "t"), (None, "1", "u")]):
        said[f"w{number}"] = look({"numpy": version}, {"SIZE": size, "TOKEN": token})
    problems, notes = attached_looks.of_environment(cell(env, secrets=("TOKEN",)), Deadline(9), ["numpy>=2"])
    assert problems == [
        "w2: numpy is not installed, and 2.1 on most workers",
        "w1: the variable SIZE is '2', and '1' on most workers",
        "w2: the variable TOKEN is […], and […] on most workers",
    ]
    assert notes == []


def test_what_all_workers_have_otherwise_is_a_note(said: dict[str, Any]) -> None:
    said["w0"] = said["w1"] = look({"numpy": "1.9"}, {"SIZE": None})
    problems, notes = attached_looks.of_environment(cell({"SIZE": "1"}), Deadline(9), ["numpy"])
    assert problems == []
    assert notes == [
        "the deployment's workers have numpy 1.9, this client has 2.1",
        "on the deployment's workers the variable SIZE is not set; `env` asks for '1'",
    ]
    assert attached_looks.of_environment(cell(), Deadline(9), []) == ((), ()), "nothing is asked"


def test_the_package_beside_which_a_runner_is(said: dict[str, Any]) -> None:
    said.update(w0=look(), w1={**look(), "missing": ["acme"]})
    bundle = Bundle(name="seir", path=Path("seir"))
    found = list(attached_looks.missing_runner(bundle, cell(runner="acme.cli:run.py"), Deadline(9)))
    assert len(found) == 1
    assert found[0].startswith("bundle 'seir': the module 'acme', ")
    assert found[0].endswith("is not found on w1")
    assert not list(attached_looks.missing_runner(bundle, cell(runner=Path("run.py")), Deadline(9)))


def test_what_requirements_install(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "My_Contracts"\nversion = "1"\n', encoding="utf-8")
    lines = ["Num.Py>=2; python_version > '3'", str(tmp_path), "/wheels/other_one-1.0-py3-none-any.whl"]
    assert attached_looks.distributions(lines) == ["num-py", "my-contracts", "other-one"]
