"""What changes in git can have touched: of files, and of the settings that changed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks.base import Check
from pytest_modelops.errors import WrongInput
from pytest_modelops.session.changed import Asked, Touched, touched
from pytest_modelops.session.configured import configure
from pytest_modelops.session.planning import plan_of
from tests.unit.matrix.index import Index

pytest_plugins = ["pytester"]

FILE = """
[tool.modelops]
workers = 1
bundles = ["one", "two"]
[tool.modelops.matrix]
python = ["3.12", "3.13"]
dask = ["2024.10.0"]
[tool.modelops.environment]
requirements = ["./lib"]
constraints = "constraints.txt"
worker-args = ["--preload", "preload.py"]
"""
FILES = ("one/a.py", "two/a.py", "lib/a.py", "lib/setup.py", "more.txt", "preload.py", "docs.md", "one/link.txt")

Ask = Callable[..., Touched]


def git(directory: Path, *arguments: str) -> None:
    name = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *name, *arguments], cwd=directory, check=True, capture_output=True)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def ask(pytester: pytest.Pytester) -> Ask:
    """Ask what has changed since the only commit; the project is a directory of the repository."""
    here = pytester.path / "project"
    for name in FILES:
        write(here / name, "1")
    write(here / "pyproject.toml", FILE)
    write(here / "constraints.txt", "# ours\n-c more.txt\n")
    write(pytester.path / ".gitignore", "*.whl\n__pycache__/\n")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-qm", "first")):
        git(pytester.path, *arguments)
    pytester.chdir()

    def ask(revision: str = "HEAD") -> Touched:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(here)
            config = pytester.parseconfig("--modelops-matrix", f"--rootdir={here}", "-c", str(here / "pyproject.toml"))
            configured = configure(config)
            releases = Index("2024.10.0", "2024.11.0")
            plan = plan_of(configured, releases=releases, config=config)
            return touched(Asked(configured, plan, releases, config), revision)

    return ask


@pytest.mark.parametrize(
    ("path", "everything", "bundles"),
    [
        ("docs.md", False, set()),
        ("new.py", False, set()),
        ("one/a.py", False, {"one"}),
        ("one/new.py", False, {"one"}),
        ("one/built.whl", False, {"one"}),
        ("one/__pycache__/a.pyc", False, set()),
        ("lib/a.py", True, set()),
        ("lib/built.whl", True, set()),
        ("constraints.txt", True, set()),
        ("more.txt", True, set()),
        ("preload.py", True, set()),
        ("uv.toml", True, set()),
        ("../uv.toml", True, set()),
    ],
)
def test_a_changed_file_touches_what_names_it(
    ask: Ask, pytester: pytest.Pytester, path: str, everything: bool, bundles: set[str]
) -> None:
    assert (ask().everything, ask().bundles) == ("", {})
    write(pytester.path / "project" / path, "2")
    found = ask()
    assert (bool(found.everything), set(found.bundles)) == (everything, bundles), found.describe()


def test_removed_moved_staged_and_linked_files_count(ask: Ask, pytester: pytest.Pytester, tmp_path: Path) -> None:
    here = pytester.path / "project"
    (here / "one/a.py").unlink()
    assert set(ask().bundles) == {"one"}
    git(here, "checkout", "one")
    git(here, "mv", "one/a.py", "two/b.py")
    assert set(ask().bundles) == {"one", "two"}
    git(here, "reset", "-q", "--hard")
    (here / "one/link.txt").unlink()
    write(tmp_path / "elsewhere.txt", "git does not watch it")
    (here / "one/link.txt").symlink_to(tmp_path / "elsewhere.txt")
    git(here, "add", ".")
    git(here, "commit", "-qm", "a link")
    assert "git does not watch" in ask().bundles["one"]


@pytest.mark.parametrize("touches", ["one", "lib"])
@pytest.mark.parametrize("linked", ["directory", "nested", "file"])
def test_what_links_lead_to_counts(ask: Ask, pytester: pytest.Pytester, touches: str, linked: str) -> None:
    here, shared = pytester.path / "project", pytester.path / "shared"
    write(shared / "deep/a.py", "1")
    write(shared / "deep/b.py", "1")
    if linked == "nested":
        (pytester.path / "other").mkdir()
        (pytester.path / "other/inner").symlink_to(shared / "deep", target_is_directory=True)
    targets = {"directory": shared / "deep", "nested": pytester.path / "other", "file": shared / "deep/a.py"}
    (here / touches / "link").symlink_to(targets[linked])
    git(here, "add", "..")
    git(here, "commit", "-qm", "links")

    def is_touched() -> bool:
        found = ask()
        return bool(found.everything) if touches == "lib" else set(found.bundles) == {"one"}

    assert not is_touched()
    write(shared / "deep/a.py", "2")
    assert is_touched()
    git(here, "checkout", "../shared")
    assert not is_touched()
    (shared / "deep/a.py").unlink()
    assert is_touched()
    write(shared / "deep/a.py", "1")
    write(shared / "deep/new.py", "1")
    assert is_touched() is (linked != "file")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("workers = 1", "workers = 1\nparallel = 3", {}),
        ("workers = 1", "workers = 2", {"everything": "`workers` changed"}),
        ('["one", "two"]', '["two"]', {}),
        ('"two"]', '{ path = "two", entrypoint = "a/run" }]', {"bundles": {"two": "its settings changed"}}),
        ('"3.13"]', '"3.13", "3.14"]', {"cells": ["py3.14-dask2024.10.0"]}),
        ('["2024.10.0"]', '["latest"]', {"cells": ["py3.12-dask2024.11.0", "py3.13-dask2024.11.0"]}),
        (', "3.13"]', "]", {}),
        ("[tool.modelops]", "[project]\nname = 'x'\n[tool.modelops]", {}),
        ("[tool.modelops]", "[tool.uv]\nno-build = true\n[tool.modelops]", {"everything": "[tool.uv] changed"}),
        ("[tool.modelops]", "[tool.pytest]\nx = 1\n[tool.modelops]", {"everything": "[tool.pytest] changed"}),
        (
            "[tool.modelops.matrix]",
            "[tool.modelops.aggregation]\nparams = 3\n[tool.modelops.matrix]",
            {"checks": ["aggregation", "bundle-aggregation", "execute", "rolling"]},
        ),
        (
            "[tool.modelops.matrix]",
            "[tool.modelops.deadlines]\nstart = 3\n[tool.modelops.matrix]",
            {"checks": ["start"]},
        ),
        ("requirements", "env = { A = '1' }\nrequirements", {"everything": "`environment` changed"}),
    ],
)
def test_a_changed_setting_touches_what_it_decides_about(
    ask: Ask, pytester: pytest.Pytester, old: str, new: str, found: dict[str, object]
) -> None:
    write(pytester.path / "project/pyproject.toml", FILE.replace(old, new))
    nothing = {"everything": "", "bundles": {}, "checks": [], "cells": []}
    answer = ask()
    assert {name: getattr(answer, name) for name in nothing} == {**nothing, **found}


def test_settings_that_cannot_be_compared_touch_everything(ask: Ask, pytester: pytest.Pytester) -> None:
    here = pytester.path / "project"
    for text in ("not TOML", "[tool.other]\n", "[tool.modelops]\nno-such-key = 1\n"):
        write(here / "pyproject.toml", text)
        git(here, "add", ".")
        git(here, "commit", "-qm", "odd")
        write(here / "pyproject.toml", FILE)
        assert "no settings in HEAD that can be compared" in ask().everything


def test_a_bad_revision_is_refused(ask: Ask, pytester: pytest.Pytester) -> None:
    with pytest.raises(WrongInput, match="--modelops-changed: git rev-parse"):
        ask("--help")
    (pytester.path / ".git").rename(pytester.path / "gone")
    with pytest.raises(WrongInput, match="not a git repository"):
        ask()


def test_a_test_of_the_users_is_touched_by_its_files_and_the_bundles_of_its_markers(tmp_path: Path) -> None:
    two = Bundle(name="two", path=tmp_path / "two")
    found = Touched(
        revision="HEAD",
        bundles={"two": "its settings changed"},
        cells=["new"],
        files=[str(tmp_path / "other/a.py"), str(tmp_path / "helper.py")],
        ignored=[str(tmp_path / "made"), str(tmp_path / "site-packages")],
    )
    test = tmp_path / "test_a.py"
    assert not found.test("old", [test], {})
    assert found.test("new", [test], {})
    assert found.test("old", [test, tmp_path / "helper.py"], {})
    assert found.test("old", [tmp_path / "made/b.py"], {}), "what git ignores may have changed"
    assert not found.test("old", [tmp_path / "site-packages/b.py"], {})
    assert found.test("old", [test], {two.path: two})
    assert not found.test("old", [test], {tmp_path / "one": Bundle(name="one", path=tmp_path / "one")})
    assert found.test("old", [test], {tmp_path / "other": None}), "a bundle that no setting mentions"
    assert not found.test("old", [test], {tmp_path / "third": None})
    (tmp_path / "third").mkdir()
    (tmp_path / "third/link").symlink_to(tmp_path / "other")
    assert found.test("old", [test], {tmp_path / "third": None}), "a link in it leads to what changed"
    assert found.test("old", [test, tmp_path / "third"], {}), "a directory with data"
    assert found.check(Check(name="handshake", run=lambda *_: None, bundle=two), "old")
    assert not found.check(Check(name="start", run=lambda *_: None), "old")
    needs = {name: Check(name=name, run=lambda *_: None, needs=needs) for name, needs in NEEDS.items()}
    assert found.with_needs({"lambda", "other"}, needs) == {"lambda", "start", "resolve", "other"}


NEEDS = {"resolve": (), "start": ("resolve",), "lambda": ("start",), "other": (), "versions": ("start",)}
