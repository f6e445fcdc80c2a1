"""Unpack an archive into a directory, or refuse it as a whole. Archives are untrusted input.

An archive is refused, with the member's name, if a member could be written outside of the directory, be taken for
another member or fill the disk. Owners, times and special permissions are dropped.

`tarfile`'s data filter does not replace these checks: it knows neither zip archives nor sizes nor clashes, makes
absolute names relative instead of refusing them, and Pythons before 3.10.12 and 3.11.4 lack it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from pytest_modelops.bundles.containers import BLOCK, DAMAGE, Damaged, Kind, Member, members
from pytest_modelops.errors import MalformedBundle

_DEEPEST, _LONGEST, _LONGEST_NAME = 64, 1000, 255
_ABSOLUTE = re.compile(r"[A-Za-z]:|[/\\]")
_NEVER_IN_NAMES = re.compile(r"[\0-\x1f\ud800-\udfff]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How large an archive may be."""

    files: int = 50_000
    size: int = 4 << 30  # bytes, unpacked
    ratio: int = 200  # of the unpacked size to the archive's own; applies beyond `small` bytes
    small: int = 64 << 20


LIMITS = Limits()


def unpack_into(directory: Path, path: Path, container: str, *, limits: Limits = LIMITS) -> None:
    """Unpack an archive into an empty directory. `container` is a value of `containers.SUFFIXES`.

    Raises:
        MalformedBundle: the archive is damaged or refused; the caller removes what was written until then.
    """
    damaged = f"cannot be unpacked, it is not a complete {container} archive"
    with _reported(path, "nothing of it was unpacked", damaged):
        compressed = _Budget(path, limits)
        with members(path, container, lambda count: compressed.spend("what is in it", count)) as found:
            _Unpacking(directory, _Budget(path, limits)).run(found)


def refuse_unsafe_wheel(path: Path, *, limits: Limits = LIMITS) -> None:
    """Refuse a wheel, which installers unpack, by its members' names and declared sizes; no content is read.

    Raises:
        MalformedBundle: a member would get any archive refused, or is a link, which no installer creates.
    """
    with _reported(path, "no installer may get it", "is not a complete wheel"):
        budget, places = _Budget(path, limits), _Places()
        with members(path, "zip", lambda _: None) as found:
            for member in found:
                budget.count()
                place = _place(member.name)
                places.take(member, place)
                if member.kind is Kind.LINK:
                    _refuse_leading_out(member, place)
                    raise _Refused(f"{member.name!r} is a link, which installers turn into a file")
                budget.spend(repr(member.name), member.size)


@contextlib.contextmanager
def _reported(path: Path, consequence: str, damaged: str) -> Iterator[None]:
    """Turn what is wrong with an archive into a `MalformedBundle`."""
    try:
        yield
    except _Refused as refused:
        raise MalformedBundle(f"{path} is refused: {refused}; {consequence}") from None
    except Damaged as damage:
        raise MalformedBundle(f"{path} cannot be unpacked: {damage}") from None
    except DAMAGE as error:
        raise MalformedBundle(f"{path} {damaged}: {str(error) or type(error).__name__}") from None


class _Refused(Exception):
    """A member must not be unpacked; the text says which and why."""


class _Budget:
    """Counts what comes out of an archive."""

    def __init__(self, archive: Path, limits: Limits) -> None:
        self._limits = limits
        self._files = 0
        self._left = min(limits.size, max(limits.small, archive.stat().st_size * limits.ratio))
        by_size = self._left == limits.size
        self._exceeded = f"{limits.size >> 20} MiB" if by_size else f"{limits.ratio} times the archive"

    def count(self) -> None:
        self._files += 1
        if self._files > self._limits.files:
            raise _Refused(f"it holds more than {self._limits.files} files")

    def spend(self, name: str, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise _Refused(f"with {name} it would be larger than {self._exceeded}")


Place = tuple[str, ...]
"""The parts of a member's path below the archive's directory."""


class _Places:
    """The members' places, each of which only one member may have."""

    def __init__(self) -> None:
        self.kinds: dict[Place, Kind] = {}
        self._spelled: dict[str, str] = {}

    def take(self, member: Member, place: Place) -> None:
        """Reserve the place of a member; refuse one that is taken, or that differs from another in case alone."""
        if member.kind is Kind.OTHER:
            raise _Refused(f"{member.name!r} is {member.kind.value}")
        if not place:
            raise _Refused(f"{member.name!r} is {member.kind.value} without a name")
        for count in range(1, len(place) + 1):
            here = place[:count]
            shown = "/".join(here)
            other = self._spelled.setdefault(unicodedata.normalize("NFC", shown).casefold(), shown)
            if other != shown:
                raise _Refused(f"{shown!r} and {other!r} are one name where case does not count")
            if count < len(place) and self.kinds.setdefault(here, Kind.DIRECTORY) is not Kind.DIRECTORY:
                raise _Refused(f"{member.name!r} lies in {shown!r}, which is {self.kinds[here].value}")
        if place in self.kinds and {member.kind, self.kinds[place]} != {Kind.DIRECTORY}:
            raise _Refused(f"{member.name!r} is there twice")
        self.kinds[place] = member.kind


class _Unpacking:
    """Writes one archive's members into a directory.

    Links are created last, when their targets exist, so that nothing is ever written through one.
    """

    def __init__(self, directory: Path, budget: _Budget) -> None:
        self._directory = directory
        self._budget = budget
        self._places = _Places()

    def run(self, found: Iterator[Member]) -> None:
        links: list[tuple[Member, Place]] = []
        for member in found:
            self._budget.count()
            place = _place(member.name)
            if not place and member.kind is Kind.DIRECTORY:
                continue  # `./`, the directory itself
            self._places.take(member, place)
            path = self._directory.joinpath(*place)
            path.parent.mkdir(parents=True, exist_ok=True)
            match member.kind:
                case Kind.DIRECTORY:
                    path.mkdir(exist_ok=True)
                case Kind.FILE:
                    self._write(member, path)
                case Kind.HARD_LINK:
                    self._copy(member, place, path)
                case Kind.LINK:
                    links.append((member, place))
        for member, place in links:
            _refuse_leading_out(member, place)
            self._directory.joinpath(*place).symlink_to(member.target)
        for member, place in links:
            self._refuse_lost(member, place)

    def _write(self, member: Member, path: Path) -> None:
        written = 0
        with member.open() as content, path.open("xb") as file:
            while block := content.read(min(BLOCK, max(1, member.size - written))):
                written += len(block)
                self._budget.spend(repr(member.name), len(block))
                file.write(block)
        if written != member.size:
            raise Damaged(f"{member.name!r} has {written} of its {member.size} bytes")
        path.chmod(0o755 if member.executable else 0o644)

    def _copy(self, member: Member, place: Place, path: Path) -> None:
        """Write the target of a hard link as a file of its own."""
        try:
            target = _place(member.target)
        except _Refused:
            raise _Refused(f"{member.name!r} is a hard link that leads out, to {member.target!r}") from None
        if target == place or self._places.kinds.get(target) not in {Kind.FILE, Kind.HARD_LINK}:
            raise _Refused(f"{member.name!r} is a hard link to {member.target!r}, which is not a file before it")
        source = self._directory.joinpath(*target)
        self._budget.spend(repr(member.name), source.stat().st_size)
        shutil.copy2(source, path, follow_symlinks=False)

    def _refuse_lost(self, member: Member, place: Place) -> None:
        """Refuse a link that leads out by way of other links, in a circle, or to nothing."""
        try:
            real = Path(os.path.realpath(self._directory.joinpath(*place), strict=True))
        except OSError:
            raise _Refused(f"{member.name!r} is a link to {member.target!r}, which is not in it") from None
        if not real.is_relative_to(os.path.realpath(self._directory)):
            raise _Refused(f"{member.name!r} is a link that leads out, to {member.target!r}")


def _place(name: str) -> Place:
    """Return where a member belongs; refuse a name that leads elsewhere or is not portable."""
    if _NEVER_IN_NAMES.search(name):
        raise _Refused(f"{name!r} has a character that file names must not have")
    if _ABSOLUTE.match(name):
        raise _Refused(f"{name!r} is an absolute path")
    place = tuple(part for part in re.split(r"[/\\]", name) if part not in {"", "."})
    if ".." in place:
        raise _Refused(f"{name!r} leads out of its directory")
    if "\\" in name:
        raise _Refused(f"{name!r} has a backslash; pack it with / between the names of directories")
    too_long = len(name) > _LONGEST or any(len(os.fsencode(part)) > _LONGEST_NAME for part in place)
    if too_long or len(place) > _DEEPEST:
        raise _Refused(f"{name[:100]!r}… is too long or too deep")
    return place


def _refuse_leading_out(member: Member, place: Place) -> None:
    """Refuse a link whose target is not below the archive's directory."""
    target = member.target
    depth = len(place) - 1
    leads_out = not target or bool(_ABSOLUTE.match(target) or re.search(r"[\\\0\ud800-\udfff]", target))
    for part in target.split("/"):
        depth += {"..": -1, "": 0, ".": 0}.get(part, 1)
        leads_out = leads_out or depth < 0
    if leads_out:
        raise _Refused(f"{member.name!r} is a link that leads out, to {target!r}")
