"""The lock of an environment as a file to install from: `requirements.txt` with hashes, or `pylock.toml` (PEP 751).

Nothing is resolved again. A `pylock.toml` also holds where the files are, which uv asks the index for; it keeps the
files that the lock has a hash of, and no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w
from packaging.utils import canonicalize_name
from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.pins import Pin, pins
from pytest_modelops.environments.target import LockedPackage, is_allowed
from pytest_modelops.environments.uv import Uv
from pytest_modelops.errors import CheckFailed
from pytest_modelops.storage.toml import tomllib


def unhashed(requirements: str) -> tuple[str, ...]:
    """Return the packages of a requirements file whose content no hash pins."""
    return tuple(str(pin) for pin in pins(requirements) if not pin.hashes and "#sha" not in (pin.requirement.url or ""))


def pylock(requirements: str, python: Version, uv: Uv, *, origin: Mapping[str, str], deadline: Deadline) -> str:
    """Return a `pylock.toml` with exactly the packages and hashes of a requirements file.

    Args:
        python: for which they were resolved, to the patch; the file is for its minor version.
        origin: goes into `[tool.pytest-modelops]`.

    Raises:
        CheckFailed: the index does not have these files any more, or uv failed.
        TimedOut: the deadline passed.
    """
    options = ("--format", "pylock.toml", "--no-deps", "--python-version", str(python))
    found: dict[str, Any] = tomllib.loads(uv.compile([requirements], *options, deadline=deadline).stdout)
    wanted = {pin.name: pin for pin in pins(requirements)}
    packages = [_only_locked(package, wanted.get(canonicalize_name(package["name"]))) for package in found["packages"]]
    if missing := wanted.keys() - {canonicalize_name(package["name"]) for package in packages}:
        raise CheckFailed(f"uv left out {', '.join(sorted(missing))}")
    return tomli_w.dumps(
        {
            "lock-version": found["lock-version"],
            "requires-python": f"=={python.major}.{python.minor}.*",
            "created-by": "pytest-modelops",
            "packages": packages,
            "tool": {"pytest-modelops": dict(origin)},
        }
    )


def _only_locked(package: LockedPackage, pin: Pin | None) -> dict[str, Any]:
    """Return a package without the files that the lock has no hash of."""
    if pin is None or (pin.version and Version(package.get("version", str(pin.version))) != pin.version):
        raise CheckFailed(f"uv answered with {package['name']} {package.get('version')} for {pin or 'no package'}")
    kept: dict[str, Any] = {key: value for key, value in package.items() if key not in {"wheels", "sdist"}}
    wheels = [file for file in package.get("wheels", ()) if _has_hash(file, pin)]
    sdist = package.get("sdist")
    if wheels:
        kept["wheels"] = wheels
    if sdist is not None and _has_hash(sdist, pin):
        kept["sdist"] = sdist
    archive = package.get("archive")
    if archive is not None and not is_allowed(archive, pin.hashes):
        raise CheckFailed(f"{pin} is another file than the one that was checked")
    if not {"wheels", "sdist", "archive", "vcs", "directory"} & kept.keys():
        raise CheckFailed(f"the index does not have the files of {pin} any more with which the cell was checked")
    return kept


def _has_hash(file: Mapping[str, Any], pin: Pin) -> bool:
    return any(f"{name}:{digest}" in pin.hashes for name, digest in file.get("hashes", {}).items())


def of_this_machine(requirements: str) -> Iterator[Pin]:
    """Yield the packages whose file is on this machine only, such as the wheel of a local project."""
    return (pin for pin in pins(requirements) if pin.local is not None)
