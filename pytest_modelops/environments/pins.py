"""The lines of a solution: what a requirements file that uv wrote says about each package."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from pytest_modelops.environments.uv import without_passwords


@dataclasses.dataclass(frozen=True)
class Pin:
    """One package of a solution.

    Attributes:
        line: as it stands in the file, with the hashes of its files if there are any.
    """

    requirement: Requirement
    line: str

    def __str__(self) -> str:
        return without_passwords(str(self.requirement))

    @property
    def name(self) -> str:
        """Its canonical name."""
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> Version | None:
        """Its version, `None` where the line does not hold it, as for a repository."""
        if self.requirement.url:
            return version_of_file(unquote(urlsplit(self.requirement.url).path).rpartition("/")[2])
        return Version(next(iter(self.requirement.specifier)).version)

    @property
    def is_wheel(self) -> bool:
        """Whether it is the URL of a wheel."""
        return urlsplit(self.requirement.url or "").path.endswith(".whl")

    @property
    def local(self) -> Path | None:
        """Its file, if that is on this machine."""
        url = urlsplit(self.requirement.url or "")
        return Path(unquote(url.path)) if url.scheme == "file" else None

    @property
    def hashes(self) -> tuple[str, ...]:
        """Those that its file may have, each `sha256:…`; empty for any."""
        return tuple(re.findall(r" --hash=(\S+)", self.line))


def pins(requirements: str) -> Iterator[Pin]:
    """Yield each package of a requirements file; options of the file are left out."""
    for line in re.sub(r"\\\n", " ", requirements).splitlines():
        text = line.partition(" --hash=")[0].strip()
        if text and not text.startswith(("#", "-")):
            yield Pin(Requirement(text), line)


def version_of_file(name: str) -> Version | None:
    """Return the version in the name of a wheel or an sdist; `None` if it is neither."""
    try:
        return parse_wheel_filename(name)[1] if name.endswith(".whl") else parse_sdist_filename(name)[1]
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
