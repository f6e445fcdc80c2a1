"""Unpacks an archive into a directory, or refuses it; nobody who made one is trusted.

A member that could be written elsewhere, be taken for another one or fill a disk makes all of the archive refused, by
name. What it says of owners, times and special permissions is left out.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may come to.

    Attributes:
        files: members.
        size: bytes in all, unpacked.
        ratio: of the unpacked size to the archive's own, beyond `small` bytes.
    """

    files: int = 50_000
    size: int = 4 << 30
    ratio: int = 200
    small: int = 64 << 20


LIMITS = Limits()


def unpack_into(directory: Path, path: Path, container: str, *, limits: Limits = LIMITS) -> None:
    """Unpack an archive into an empty directory.

    Args:
        container: see `containers.SUFFIXES`.

    Raises:
        MalformedBundle: see `unpack`; what was written until then has to go.
    """
    unwhole = f"cannot be unpacked, it is no whole {container} archive"
    with _told_of(path, "nothing of it was unpacked", unwhole):
        unpacking = _Unpacking(directory, _Budget(path.stat().st_size, limits))
        spent = _Budget(path.stat().st_size, limits)
        with members(path, container, lambda count: spent.spend("what is in it", count)) as found:
            unpacking.run(found)


def refuse_unsafe_wheel(path: Path, *, limits: Limits = LIMITS) -> None:
    """Refuse a wheel, which is a zip that others unpack, by its names and by the sizes that it says; nothing is read.

    Raises:
        MalformedBundle: it holds what makes an archive refused, or a link, which no installer makes of it.
    """
    with _told_of(path, "no installer shall have it", "is no whole wheel"):
        budget, places = _Budget(path.stat().st_size, limits), _Places()
        with members(path, "zip", lambda _: None) as found:
            for member in found:
                budget.count()
                place = _place(member.name)
                places.take(member, place)
                if member.kind is Kind.LINK:
                    _refuse_leading_out(member, place)
                    raise _Refused(f"{member.name!r} is a link, of which installers make a file")
                budget.spend(repr(member.name), member.size)


@contextlib.contextmanager
def _told_of(path: Path, consequence: str, unwhole: str) -> Iterator[None]:
    """What is wrong with an archive, as a bundle that is malformed."""
    try:
        yield
    except _Refused as refused:
        raise MalformedBundle(f"{path} is refused: {refused}; {consequence}") from None
    except Damaged as damage:
        raise MalformedBundle(f"{path} cannot be unpacked: {damage}") from None
    except DAMAGE as error:
        raise MalformedBundle(f"{path} {unwhole}: {str(error) or type(error).__name__}") from None


class _Refused(Exception):
    """A member that shall not be unpacked, in words."""


class _Budget:
    """Counts what comes out of an archive of so many bytes."""

    def __init__(self, packed: int, limits: Limits) -> None:
        self._limits = limits
        self._files = 0
        self._left = min(limits.size, max(limits.small, packed * limits.ratio))
        self._why = (
            f"larger than {limits.size >> 20} MiB"
            if self._left == limits.size
            else f"larger than {limits.ratio} times the archive"
        )

    def count(self) -> None:
        self._files += 1
        if self._files > self._limits.files:
            raise _Refused(f"it holds more than {self._limits.files} files")

    def spend(self, name: str, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise _Refused(f"with {name} it would be {self._why}")


Place = tuple[str, ...]
"""Where a member belongs: the names of the directories that it is in, and its own."""


class _Places:
    """The places of an archive's members, each of which is one member's alone."""

    def __init__(self) -> None:
        self.kinds: dict[Place, Kind] = {}
        self._same: dict[str, str] = {}

    def take(self, member: Member, place: Place) -> None:
        """Reserve the place of a member; refuse one that another has, in whichever case."""
        if member.kind is Kind.OTHER:
            raise _Refused(f"{member.name!r} is {member.kind.value}")
        if not place:
            raise _Refused(f"{member.name!r} is {member.kind.value} without a name")
        for count in range(1, len(place) + 1):
            here = place[:count]
            shown = "/".join(here)
            other = self._same.setdefault(unicodedata.normalize("NFC", shown).casefold(), shown)
            if other != shown:
                raise _Refused(f"{shown!r} and {other!r} are one name where case does not count")
            if count < len(place) and self.kinds.setdefault(here, Kind.DIRECTORY) is not Kind.DIRECTORY:
                raise _Refused(f"{member.name!r} lies in {shown!r}, which is {self.kinds[here].value}")
        if self.kinds.get(place, member.kind) is not member.kind or (
            place in self.kinds and member.kind is not Kind.DIRECTORY
        ):
            raise _Refused(f"{member.name!r} is there twice")
        self.kinds[place] = member.kind


class _Unpacking:
    """One archive on its way into a directory.

    Links are made last, when all that they can lead to is there, so that nothing is ever written through one.
    """

    def __init__(self, directory: Path, budget: _Budget) -> None:
        self._directory = directory
        self._budget = budget
        self._places = _Places()
        self._links: list[tuple[Member, Place]] = []

    def run(self, found: Iterator[Member]) -> None:
        for member in found:
            self._budget.count()
            place = _place(member.name)
            if not place and member.kind is Kind.DIRECTORY:
                continue  # `./`, the directory itself
            self._places.take(member, place)
            match member.kind:
                case Kind.DIRECTORY:
                    self._path(place).mkdir(parents=True, exist_ok=True)
                case Kind.FILE:
                    self._write(member, place)
                case Kind.HARD_LINK:
                    self._copy(member, place)
                case Kind.LINK:
                    self._links.append((member, place))
        for member, place in self._links:
            _refuse_leading_out(member, place)
            self._path(place).parent.mkdir(parents=True, exist_ok=True)
            self._path(place).symlink_to(member.target)
        for member, place in self._links:
            self._refuse_lost(member, place)

    def _path(self, place: Place) -> Path:
        return self._directory.joinpath(*place)

    def _write(self, member: Member, place: Place) -> None:
        path = self._path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with member.open() as content, path.open("xb") as file:
            while block := content.read(min(BLOCK, max(1, member.size - written))):
                written += len(block)
                self._budget.spend(repr(member.name), len(block))
                file.write(block)
        if written != member.size:
            raise Damaged(f"{member.name!r} has {written} of its {member.size} bytes")
        path.chmod(0o755 if member.executable else 0o644)

    def _copy(self, member: Member, place: Place) -> None:
        """A hard link becomes a file of its own."""
        try:
            target = _place(member.target)
        except _Refused:
            raise _Refused(f"{member.name!r} is a hard link that leads out, to {member.target!r}") from None
        if target == place or self._places.kinds.get(target) not in {Kind.FILE, Kind.HARD_LINK}:
            raise _Refused(f"{member.name!r} is a hard link to {member.target!r}, which is no file before it")
        source, path = self._path(target), self._path(place)
        self._budget.spend(repr(member.name), source.stat().st_size)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, path, follow_symlinks=False)

    def _refuse_lost(self, member: Member, place: Place) -> None:
        """Refuse a link that leads out by way of others, in a circle, or to nothing."""
        try:
            real = Path(os.path.realpath(self._path(place), strict=True))
        except OSError:
            raise _Refused(f"{member.name!r} is a link to {member.target!r}, which is not in it") from None
        if not real.is_relative_to(os.path.realpath(self._directory)):
            raise _Refused(f"{member.name!r} is a link that leads out, to {member.target!r}")


def _place(name: str) -> Place:
    """Where a member of this name belongs.

    Raises:
        _Refused: nowhere in the archive's own directory.
    """
    if any(character < " " or "\ud800" <= character <= "\udfff" for character in name):
        raise _Refused(f"{name!r} has a character that no name of a file should have")
    if re.match(r"[A-Za-z]:|[/\\]", name):
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
    target = member.target
    here = list(place[:-1])
    leads_out = not target or re.match(r"[A-Za-z]:|[/\\]", target) or "\\" in target or "\0" in target
    for part in target.split("/"):
        if part == "..":
            leads_out = leads_out or not here
            del here[-1:]
        elif part not in {"", "."}:
            here.append(part)
    if leads_out or any("\ud800" <= character <= "\udfff" for character in target):
        raise _Refused(f"{member.name!r} is a link that leads out, to {target!r}")
