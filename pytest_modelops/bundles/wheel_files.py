"""Wheels that a bundle brings along: what each says of itself, and whether that can be verified.

Read from the archives alone; nothing is installed. Source of the format:
https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import configparser
import csv
import dataclasses
import email.parser
import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from pytest_modelops.bundles import contents
from pytest_modelops.bundles.containers import BLOCK, DAMAGE
from pytest_modelops.bundles.metadata import WIRE_GROUP, RequiresPython
from pytest_modelops.bundles.unpacking import LIMITS, refuse_unsafe_wheel
from pytest_modelops.errors import MalformedBundle

_SHOWN = 3
_UNHASHED = {"RECORD", "RECORD.jws", "RECORD.p7s"}
_STRONG = {"sha256", "sha384", "sha512"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WheelFile:
    """A wheel, as it says itself.

    Attributes:
        path: absolute.
        tags: of those who can install it.
        modules: dotted names of all that it installs.
        python: which Pythons it admits; `None` when it does not say.
        dependencies: what it needs, as written.
        wires: entry points of the group `modelops.wire`: name → `module:function`.
    """

    path: Path
    name: NormalizedName
    version: Version
    tags: frozenset[Tag]
    modules: tuple[str, ...]
    python: RequiresPython | None
    dependencies: tuple[str, ...]
    wires: Mapping[str, str]


def read(path: Path) -> WheelFile:
    """Read a wheel.

    Raises:
        MalformedBundle: its name is none of a wheel, it is no whole archive, it holds what could be written elsewhere,
            be taken for another file or fill a disk, or it lacks its metadata.
    """
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename:
        raise MalformedBundle(
            f"{path}: this is no name of a wheel; write one such as model-1.0-py3-none-any.whl"
        ) from None
    refuse_unsafe_wheel(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            info = _dist_info(names, path)
            answer = email.parser.Parser().parsestr(_text(archive, f"{info}/METADATA"))
            entry_points = _text(archive, f"{info}/entry_points.txt") if f"{info}/entry_points.txt" in names else ""
    except DAMAGE as error:
        raise MalformedBundle(f"{path} is no whole wheel: {error}") from None
    _compare(path, name, version, answer.get("Name"), answer.get("Version"))
    wanted = answer.get("Requires-Python")
    return WheelFile(
        path=path,
        name=name,
        version=version,
        tags=tags,
        modules=tuple(dict.fromkeys(filter(None, map(_module, names)))),
        python=RequiresPython(text=wanted, key="Requires-Python", file=path) if wanted else None,
        dependencies=tuple(_needed(answer.get_all("Requires-Dist") or [])),
        wires=_wires(entry_points, path),
    )


def _dist_info(names: Iterable[str], path: Path) -> str:
    directories = sorted({name.partition("/")[0] for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)})
    if len(directories) != 1:
        found = f"{len(directories)}: {', '.join(directories)}" if directories else "none"
        raise MalformedBundle(f"{path} is no wheel: it has to have one .dist-info/METADATA, and has {found}")
    return directories[0]


def _text(archive: zipfile.ZipFile, name: str) -> str:
    info = archive.getinfo(name)
    if info.file_size > LIMITS.small:
        raise MalformedBundle(f"{archive.filename}: {name} has {info.file_size} bytes")
    return archive.read(info).decode()


def _compare(path: Path, name: str, version: Version, answer: str | None, reported_version: str | None) -> None:
    try:
        same = canonicalize_name(answer or "") == name and Version(reported_version or "") == version
    except InvalidVersion:
        same = False
    if not same:
        raise MalformedBundle(
            f"{path}: its METADATA says that it is {answer} {reported_version}; no installer takes it under this name"
        )


def _needed(lines: Iterable[str]) -> Iterator[str]:
    """Requirements without those of an extra."""
    for line in lines:
        try:
            marker = Requirement(line).marker
        except InvalidRequirement:
            continue  # for the installer to say
        if marker is None or "extra" not in str(marker):
            yield line


def _wires(entry_points: str, path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    try:
        parser.read_string(entry_points)
    except configparser.Error as error:
        raise MalformedBundle(f"{path}: its entry_points.txt cannot be read: {str(error).splitlines()[0]}") from None
    return dict(parser.items(WIRE_GROUP)) if parser.has_section(WIRE_GROUP) else {}


def _module(name: str) -> str | None:
    """The module that a file of a wheel is; `None` if it is none."""
    parts = PurePosixPath(name).parts
    if parts[0].endswith(".data"):
        scheme, *rest = parts[1:] or ("",)
        if scheme not in {"purelib", "platlib"}:
            return None
        parts = tuple(rest)
    return contents.module_of(PurePosixPath(*parts))


# Whether it can be verified.


def problems_of_record(wheel: WheelFile) -> Iterator[str]:
    """Where a wheel's RECORD does not tell what is in it: then nothing can verify that what was installed was shipped.

    Installers take most of such wheels all the same. Source of the rules: "The .dist-info directory" of the format.
    """
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            infos = {info.filename: info for info in archive.infolist() if not info.is_dir()}
            info = _dist_info(infos, wheel.path)
            if f"{info}/RECORD" not in infos:
                yield f"{wheel.path.name} has no RECORD; {_REBUILD}"
                return
            rows = {row[0]: row[1] for row in csv.reader(_text(archive, f"{info}/RECORD").splitlines()) if row[1:]}
            yield from _differences(wheel, archive, infos, rows, info)
    except (*DAMAGE, csv.Error) as error:
        yield f"{wheel.path.name} is no whole wheel: {error}"


_REBUILD = "build it again, such as with `python -m build --wheel` or `pip wheel`"


def _differences(
    wheel: WheelFile, archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo], rows: Mapping[str, str], info: str
) -> Iterator[str]:
    name = wheel.path.name
    to_be_hashed = {file for file in infos if file not in {f"{info}/{other}" for other in _UNHASHED}}
    if unknown := sorted(to_be_hashed - rows.keys()):
        yield f"{name} holds files that its RECORD does not list ({_some(unknown)}); {_REBUILD}"
    if lost := sorted(rows.keys() - infos.keys()):
        yield f"the RECORD of {name} lists files that are not in it ({_some(lost)}); {_REBUILD}"
    listed = sorted(to_be_hashed & rows.keys())
    if bare := [file for file in listed if rows[file].partition("=")[0] not in _STRONG]:
        yield (
            f"the RECORD of {name} has no hash of {len(bare)} of its {len(to_be_hashed)} files ({_some(bare)}), "
            f"so nothing can verify what was installed of it; {_REBUILD}"
        )
    hashed = (file for file in listed if rows[file].partition("=")[0] in _STRONG)
    if changed := [file for file in hashed if _hash(archive, infos[file], rows[file]) != rows[file]]:
        yield f"{name} was changed after it was built: {_some(changed)} is not what its RECORD says; {_REBUILD}"


def _hash(archive: zipfile.ZipFile, info: zipfile.ZipInfo, like: str) -> str:
    algorithm = like.partition("=")[0]
    digest = hashlib.new(algorithm)
    with archive.open(info) as content:
        while block := content.read(BLOCK):
            digest.update(block)
    return f"{algorithm}={base64.urlsafe_b64encode(digest.digest()).decode().rstrip('=')}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
