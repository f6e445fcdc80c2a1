"""Where each module of a bundle must be found: what is built is used as it was built."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_modelops.bundles import places
from pytest_modelops.bundles.formats import read
from pytest_modelops.remote.runner.inspection import missing
from pytest_modelops.remote.shared.bundle_messages import OnPath
from tests.unit.bundles.files import PROJECT, WIRE, WIRE_GROUP, write_files

FLAT = {"pyproject.toml": PROJECT, "flat/__init__.py": "", "flat/deep/__init__.py": "", "flat/deep/base.py": ""}
ENTRY = {"pyproject.toml": f'{PROJECT}{WIRE_GROUP}wire = "flat.wire:wire"\n', "flat/wire.py": WIRE}
MANIFEST = {".modelops/manifest.json": '{"wire": "start.py:wire"}', "start.py": WIRE}


@pytest.mark.parametrize(
    ("files", "on_path"),
    [
        ({"wire.py": WIRE}, "first"),
        ({"requirements.txt": "", "wire.py": WIRE}, "first"),
        (FLAT | ENTRY, "never"),
        (FLAT | ENTRY | {"plot.py": "", "notebooks/look.py": ""}, "never"),
        ({"pyproject.toml": PROJECT, "src/flat/__init__.py": ""}, "never"),
        ({"pyproject.toml": PROJECT, "src/flat/__init__.py": "", "wire.py": WIRE}, "first"),
        (FLAT | {"wire.py": WIRE}, "last"),
        (FLAT | MANIFEST, "last"),
        (FLAT | {".modelops/manifest.json": '{"wire": "flat/wire.py:wire"}', "flat/wire.py": WIRE}, "never"),
        ({"part/pyproject.toml": PROJECT, "part/flat/__init__.py": "", "wire.py": WIRE}, "first"),
    ],
)
def test_a_bundle_s_directory_is_on_the_path_only_for_what_runs_from_it(
    tmp_path: Path, files: dict[str, str], on_path: OnPath
) -> None:
    assert places.of(read(write_files(tmp_path / "bundle", files))).on_path == on_path


def test_what_is_built_must_be_installed_and_what_is_loose_is_not(tmp_path: Path) -> None:
    flat = places.of(read(write_files(tmp_path / "flat", FLAT | ENTRY))).modules
    assert flat == dict.fromkeys(["flat", "flat.deep", "flat.deep.base", "flat.wire"], "installed")
    both = {"pyproject.toml": PROJECT, "src/flat/__init__.py": "", "wire.py": WIRE}
    assert places.of(read(write_files(tmp_path / "both", both))).modules == {"flat": "installed", "wire": "source"}


def test_a_script_beside_packages_may_be_left_out_unless_the_settings_name_it(tmp_path: Path) -> None:
    beside = {"plot.py": "", "notebooks/look.py": "", "tools/__init__.py": "", "targets.py": "", "more/__init__.py": ""}
    source = read(write_files(tmp_path / "bundle", FLAT | ENTRY | beside))
    found = places.of(source, ["flat.deep/base", "targets:loss"]).modules
    if_shipped = {name for name, place in found.items() if place == "if-shipped"}
    assert if_shipped == {"plot", "notebooks.look", "tools"}
    assert found["targets"] == found["more"] == "installed"
    with_wire = read(write_files(tmp_path / "wire", FLAT | {"wire.py": WIRE, "targets.py": ""}))
    found = places.of(with_wire, ["targets:loss"]).modules
    assert found["wire"] == found["targets"] == "anywhere"
    assert found["flat.deep"] == "installed"


def test_what_a_build_leaves_out_is_missing_although_the_source_has_it(tmp_path: Path) -> None:
    """Subpackages, packages, parts of namespace packages: whatever the build drops."""
    source = write_files(
        tmp_path / "source",
        {"flat/__init__.py": "", "flat/deep/base.py": "", "space/one.py": "", "space/two.py": "", "plot.py": ""},
    )
    site = write_files(tmp_path / "site", {"flat/__init__.py": "", "space/one.py": ""})
    asked = dict.fromkeys(["flat", "flat.deep.base", "space.one", "space.two"], "installed")
    assert missing(asked, [str(site)], str(source)) == (["flat.deep.base", "space.two"], [])
    assert missing(dict.fromkeys(asked, "source"), [str(site)], str(source)) == ([], [])
    assert missing({**asked, "plot": "anywhere"}, [str(site)], str(source))[0] == ["flat.deep.base", "space.two"]


def test_what_may_be_left_out_is_missing_where_part_of_it_or_nothing_at_all_is_installed(tmp_path: Path) -> None:
    source = write_files(tmp_path / "source", {"model.py": "", "plot.py": "", "space/one.py": "", "space/two.py": ""})
    asked = dict.fromkeys(["model", "plot", "space.one", "space.two"], "if-shipped")
    site = write_files(tmp_path / "site", {"model.py": "", "space/one.py": ""})
    assert missing(asked, [str(site)], str(source)) == (["space.two"], ["plot"])
    nothing = write_files(tmp_path / "nothing", {})
    assert missing(asked, [str(nothing)], str(source)) == ([*asked], [])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"setup.py": "", "setup.cfg": "[options]\npackages = find:\npackage_dir =\n  = src\n"},
            "acme has no __init__",
        ),
        ({"setup.py": "setup(packages=find_packages('src'), package_dir={'': 'src'})"}, "`find_namespace:`"),
        ({"setup.py": "", "setup.cfg": "[options]\npackages = find_namespace:\npackage_dir =\n  = src\n"}, ""),
        ({"pyproject.toml": PROJECT}, ""),
    ],
)
def test_why_setuptools_left_out_a_namespace_is_said(tmp_path: Path, files: dict[str, str], said: str) -> None:
    code = {"src/acme/waves/__init__.py": "", "src/acme/waves/core.py": "", "src/whole/__init__.py": ""}
    source = read(write_files(tmp_path / "bundle", {**files, **code}))
    hint = places.namespaces_left_out(source, ["whole", "acme.waves.core"])
    assert said in hint
    assert bool(hint) is bool(said)
    assert places.namespaces_left_out(source, ["whole"]) == ""
