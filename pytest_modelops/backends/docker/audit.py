"""Whether a prebuilt image has what the settings ask for. Nothing is added to it, so it has to be there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from pytest_modelops.backends.docker.contents import Contents
from pytest_modelops.backends.docker.images import Image
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.environments.constraints import requirements_of


def unmet(spec: EnvironmentSpec, image: Image, contents: Contents, packages: Mapping[str, Version]) -> Iterator[str]:
    """Yield a message for each requirement and constraint that the image does not meet.

    Args:
        packages: canonical name → version of what is in it.
    """
    variables = _variables(contents)
    for line in spec.requirements:
        wanted = requirement_of(line)
        if wanted is None or (wanted.marker and not wanted.marker.evaluate(variables)):
            continue
        found = packages.get(canonicalize_name(wanted.name))
        if found is None:
            yield f"image {image.name} has no {wanted.name}, which requirements ask for ({line})"
        elif not wanted.specifier.contains(found, prereleases=True):
            yield f"image {image.name} has {wanted.name} {found}, and requirements ask for {line}"
    for wanted in requirements_of(spec.constraints):
        found = packages.get(canonicalize_name(wanted.name))
        applies = not wanted.marker or wanted.marker.evaluate(variables)
        if found is not None and applies and not wanted.specifier.contains(found, prereleases=True):
            yield f"image {image.name} has {wanted.name} {found}, and constraints ask for {wanted}"


def unreported(spec: EnvironmentSpec, image: Image) -> Iterator[str]:
    """Yield a message for each requirement that cannot be compared with what is in an image."""
    for line in spec.requirements:
        if requirement_of(line) is None:
            yield f"image {image.name} is run as it is; whether it contains {line} is not known"


def requirement_of(line: str) -> Requirement | None:
    """Return the requirement of a line: for a wheel, the release in its name; `None` for a directory."""
    try:
        wanted = Requirement(line)
    except InvalidRequirement:
        return _release_of(line)
    if wanted.url is None:
        return wanted
    release = _release_of(urlsplit(wanted.url).path) or Requirement(wanted.name)
    release.marker = wanted.marker
    return release


def _release_of(location: str) -> Requirement | None:
    try:
        name, version, *_ = parse_wheel_filename(Path(unquote(location)).name)
    except InvalidWheelFilename:
        return None
    return Requirement(f"{name}=={version}")


def _variables(contents: Contents) -> dict[str, str]:
    """Return the variables of markers (https://packaging.python.org/en/latest/specifications/dependency-specifiers/)."""
    return {
        "python_version": f"{contents.python.major}.{contents.python.minor}",
        "python_full_version": str(contents.python),
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_machine": contents.machine,
    }
