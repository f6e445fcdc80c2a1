"""What is installed, read without `importlib.metadata`, is what that reads."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import zipfile
from pathlib import Path

import pytest

from pytest_modelops.remote.runner import distributions
from tests.unit.bundles.files import write_files

OWN = {
    "a/Some_App-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: Some_App\nVersion: 1.0\nName: no\n\nText",
    "a/Some_App-1.0.dist-info/entry_points.txt": (
        "[other]\nx = no:no\n\n[modelops.wire]\n# y = no:no\nany = app.wires : run [extra]\nand=app:Holder.run\n"
    ),
    "a/old-2.egg-info": "Metadata-Version: 1.0\nName: old\nVersion: 2\n",
    "a/develop.egg-info/PKG-INFO": "Name: develop\nVersion: 3\nSummary: text\n  Version: 4\n",
    "a/broken-1.dist-info/RECORD": "",
    "a/module.py": "",
    "b/some_app-0.9.dist-info/METADATA": "Name: some-app\nVersion: 0.9\n",
    "b/some_app-0.9.dist-info/entry_points.txt": "[modelops.wire]\nhidden = no:no\n",
    "c/one-1.egg/EGG-INFO/PKG-INFO": "Name: one\nVersion: 1\n",
}


class Finder(importlib.metadata.MetadataPathFinder):
    """As that of the package `importlib_metadata`, it has packages and no modules."""

    @staticmethod
    def find_spec(*_: object) -> None:
        return None


def as_python_says(path: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    context = importlib.metadata.DistributionFinder.Context(path=path)
    # Not `distributions`, which also asks the package `importlib_metadata`, once anything has imported that.
    for one in importlib.metadata.MetadataPathFinder.find_distributions(context):
        if name := one.metadata["Name"]:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), one.version)
    return found


@pytest.mark.parametrize("other_finders", [False, True])
def test_it_is_what_python_itself_says_of_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_finders: bool
) -> None:
    if other_finders:
        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    write_files(tmp_path, OWN)
    path = [str(tmp_path / name) for name in ("a", "missing", "b", "c/one-1.egg")]
    found = distributions.installed(path)
    versions = {name: one.version for name, one in found.items()}
    assert versions == as_python_says(path) == {"some-app": "1.0", "old": "2", "develop": "3", "one": "1"}
    assert {name: one.version for name, one in distributions.installed(sys.path).items()} == as_python_says(sys.path)
    assert distributions.entry_points(path, distributions.WIRE) == ["app.wires : run [extra]", "app:Holder.run"]
    consoles = {
        one.value for one in importlib.metadata.distribution("pytest").entry_points.select(group="console_scripts")
    }
    assert consoles <= set(distributions.entry_points(sys.path, "console_scripts"))


def test_an_archive_on_the_path_may_have_packages(tmp_path: Path) -> None:
    archive = tmp_path / "site.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app-1.dist-info/METADATA", "Name: app\nVersion: 1\n")
        file.writestr("app-1.dist-info/entry_points.txt", "[modelops.wire]\nrun = app:run\n")
    assert distributions.entry_points([str(archive)], distributions.WIRE) == ["app:run"]
