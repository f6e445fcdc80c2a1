"""Six formats × two ways to install, in processes and in containers: all green, and no module is lost.

And a broken twin of each format, which is red for its reason in both ways.

In one run for each backend; in containers that of `test_broken_bundles.py`. Half of the bundles are archives. What else
may be wrong with a format is reported by `test_bundle_formats.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration import test_bundle_formats as formats
from tests.integration.conftest import AT_ONCE, INSTALLED, UNKNOWN, Reported, RunOnce

DEADLINE = 180
"""Of `bundle-install`, in seconds."""
WAYS = ("isolated", "workers")
WORKERS: Mapping[str, list[str]] = {"process": ["worker-0", "worker-1"], "docker": ["worker-0"]}
"""Of the cell on each backend."""
ARCHIVES: Mapping[tuple[str, str], str] = {
    ("requirements", "workers"): "requirements-workers.tar",
    ("pure_python", "isolated"): "pure_python-isolated.zip",
    ("packaged", "workers"): "testpkg-1.0.tar.gz",
    ("existing_wheels", "isolated"): "wheeled-1.0-py3-none-any.whl",
    ("mixed", "isolated"): "mixed-isolated.tgz",
    ("nested", "workers"): "nested-workers.tar.bz2",
}
"""What is shipped as an archive, an sdist or a wheel; all else is a directory."""
NAMES = {
    **{(name, way): f"{name}-{way}" for name in formats.IMPORTS for way in WAYS},
    ("packaged", "workers"): "testpkg",
    ("existing_wheels", "isolated"): "wheeled",
}
"""What each bundle is called."""
CHECK_NAMES = "preflight or bundle_install or handshake"
"""Those that are run, as `-k` takes them."""
PACKED = {"requirements": "isolated", "packaged": "isolated", "nested": "isolated"}
"""Which twins are archives, in which way; of the other formats it is those in the workers."""


def ship(directory: Path) -> list[str]:
    """Make every format and its twin twice, since a bundle has one way to install; the lines that configure them."""
    made = {(name, way): _healthy(directory, name, way) for name in formats.IMPORTS for way in WAYS}
    lines = [_line(path, way, formats.IMPORTS[name]) for (name, way), path in made.items()]
    for way in WAYS:
        (directory / way).mkdir()
        twins = {path.name: (path, imports) for path, imports in formats.broken(directory / way).items()}
        for name, twin in formats.TWINS.items():
            path, imports = twins[twin]
            called = directory / f"{twin}-{way}"
            if PACKED.get(name, "workers") == way:
                called = formats.pack(path, called.with_name(f"{called.name}.zip"))
            else:
                path.rename(called)
            lines.append(_line(called, way, imports))
    return lines


def alone(directory: Path) -> str:
    """The configuration of a run with nothing else."""
    cell = '[tool.modelops.matrix]\npython = ["3.12"]\ndask = ["2024.10.0"]\n'
    deadlines = f"[tool.modelops.deadlines]\nbundle-install = {DEADLINE}\n"
    return "\n".join(["[tool.modelops]", "workers = 2", "bundles = [", *ship(directory), "]", cell, deadlines])


def _healthy(directory: Path, name: str, way: str) -> Path:
    archive = ARCHIVES.get((name, way))
    if name == "existing_wheels":
        file = "wheeled-1.0-py3-none-any.whl"
        bundle = directory / f"{name}-{way}"
        wheel = formats.wheel(directory / file if archive else bundle / "deep" / "vendor" / file)
        return wheel if archive else bundle
    if archive is None:
        return Path(shutil.copytree(formats.FORMATS / name, directory / f"{name}-{way}"))
    make = formats.sdist if name == "packaged" else formats.pack
    return make(formats.FORMATS / name, directory / archive)


def _line(path: Path, way: str, imports: tuple[str, ...]) -> str:
    return f'  {{ path = "{path}", imports = {json.dumps(imports)}, install = "{way}" }},'


@pytest.fixture(scope="session", params=WORKERS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def reported(run_once: RunOnce, request: pytest.FixtureRequest, backend: str) -> Reported:
    """What one run with all of them said, on each backend."""
    if backend == "docker":
        everything: Reported = request.getfixturevalue("bundles_in_containers")
        return everything
    return run_once(f"formats-on-{backend}", alone, "-k", CHECK_NAMES, sources=[formats.FORMATS])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", formats.IMPORTS)
def test_a_format_installs_in_every_way_and_loses_no_module(
    reported: Reported, backend: str, name: str, way: str
) -> None:
    bundle, workers = NAMES[name, way], WORKERS[backend]
    install = reported.checks[bundle, "bundle-install"]
    assert install.data["format"] == name
    assert install.data["modules"] == formats.FOUND[name][1] > 0 or name == "requirements"
    assert install.seconds <= DEADLINE + 2
    if way == "isolated":
        formats.loses_no_module(reported, bundle, name, "client", *workers)
        handshake = reported.checks[bundle, "handshake"]
        assert handshake.data == {"runners": len(workers)}
        assert handshake.seconds <= AT_ONCE
    else:
        reported.passed(bundle, "preflight", "bundle-install")
        assert install.data["processes"] == ["client", *workers, "worker-late"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", formats.TWINS)
def test_its_broken_twin_is_red_for_its_reason_in_every_way(reported: Reported, name: str, way: str) -> None:
    check_name, facts = formats.BROKEN[formats.TWINS[name]]
    within = INSTALLED if check_name == "bundle-install" else AT_ONCE
    cause = formats.CAUSES.get(formats.TWINS[name], UNKNOWN)
    reported.broke(f"{formats.TWINS[name]}-{way}", check_name, within=within, cause=cause).says(*facts)


def test_half_of_the_bundles_are_archives_in_every_way() -> None:
    assert len(ARCHIVES) == len(NAMES) / 2
    assert {name for name, _ in ARCHIVES} == set(formats.IMPORTS) == set(formats.TWINS)
    assert {way for _, way in ARCHIVES} == set(WAYS)
