"""What a wheelhouse is asked for, as lines of a requirements file; and the hashes in it, which a solution has to keep.

uv ignores the hashes of what it is to resolve: its solution has those of every file of the index. Only the ones that
the user allows stay in it, so pip takes no other file. Rules: https://pip.pypa.io/en/stable/topics/secure-installs/.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from urllib.parse import urldefrag

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from pytest_modelops.environments.pins import Pin, pins
from pytest_modelops.errors import CheckFailed

_CONSTRAINT = "--constraint="
_HASHED = "--require-hashes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """Requirements, constraints and hashes.

    Attributes:
        requirements, constraints: without hashes.
        hashes: of a requirement or constraint, those that its file may have.
        hashed: whether every file of an index needs a hash.
    """

    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    hashes: tuple[tuple[str, frozenset[str]], ...]
    hashed: bool

    @classmethod
    def parse(cls, lines: Sequence[str]) -> Wanted:
        """Read lines as `Backend.wheelhouse` gets them."""
        split = [line.split(" --hash=") for line in lines if line != _HASHED]
        texts = [text for text, *_ in split]
        return cls(
            requirements=tuple(text for text in texts if not text.startswith(_CONSTRAINT)),
            constraints=tuple(text.removeprefix(_CONSTRAINT) for text in texts if text.startswith(_CONSTRAINT)),
            hashes=tuple((text.removeprefix(_CONSTRAINT), frozenset(hashes)) for text, *hashes in split if hashes),
            hashed=_HASHED in lines,
        )

    def kept(self, solution: str, python: Version) -> str:
        """Return a solution with the allowed hashes only.

        Args:
            solution: a requirements file.
            python: decides about markers.

        Raises:
            CheckFailed: something in it has no hash.
        """
        if not self.hashed:
            return solution
        lines, without = [], []
        for pin in pins(solution):
            allowed = sorted(self._allowed(pin, python))
            # A file of this machine is the bundle's own.
            if not allowed and pin.local is None and "#sha" not in (pin.requirement.url or ""):
                without.append(str(pin))
            lines.append(f"{pin.requirement}{''.join(f' --hash={one}' for one in allowed)}")
        if without:
            raise CheckFailed(
                f"hashes are required, since a line of the requirements has one, and none is given for "
                f"{', '.join(without)}\nList everything that is needed with its hashes, as `uv pip compile "
                "--generate-hashes` does, or remove all hashes."
            )
        return "".join(f"{line}\n" for line in lines)

    def _allowed(self, pin: Pin, python: Version) -> frozenset[str]:
        """Return what all lines about a package allow."""
        found = [hashes for line, hashes in self.hashes if _is_about(line, pin, python)]
        return frozenset.intersection(*found) if found else frozenset()


def _is_about(line: str, pin: Pin, python: Version) -> bool:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:  # a URL
        return urldefrag(line)[0] == urldefrag(pin.requirement.url or "")[0]
    if canonicalize_name(requirement.name) != pin.name:
        return False
    environment = {"python_version": f"{python.major}.{python.minor}", "python_full_version": str(python)}
    if requirement.marker and not requirement.marker.evaluate(environment):
        return False
    version = pin.version
    return version is None or requirement.specifier.contains(version, prereleases=True)
