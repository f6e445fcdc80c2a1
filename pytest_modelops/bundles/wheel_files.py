"""Wheels in a bundle: what each declares, and whether its RECORD can verify it. Nothing is installed.

Format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/. The library `installer` does
not replace `problems_of_record`: it accepts weak hashes and files that RECORD lists and the wheel lacks.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import email.parser
import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from pytest_modelops.bundles import contents
from pytest_modelops.bundles.containers import BLOCK, DAMAGE
from pytest_modelops.bundles.documents import parse_ini
from pytest_modelops.bundles.metadata import WIRE_GROUP, EntryPoint, RequiresPython
from pytest_modelops.bundles.unpacking import LIMITS, refuse_unsafe_wheel
from pytest_modelops.errors import MalformedBundle

_SHOWN = 3
_UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")
_STRONG = {"sha256", "sha384", "sha512"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WheelFile:
    """A wheel, as its name and metadata describe it.

    Attributes:
        path: absolute.
        modules: dotted names of all that it installs.
        python: which Pythons it admits; `None` when it does not say.
        dependencies: as written, without those of an extra.
    """

    path: Path
    name: NormalizedName
    version: Version
    tags: frozenset[Tag]
    modules: tuple[str, ...]
    python: RequiresPython | None
    dependencies: tuple[str, ...]
    wires: tuple[EntryPoint, ...]


def read(path: Path) -> WheelFile:
    """Read a wheel.

    Raises:
        MalformedBundle: its name is not a wheel's, it is damaged, it is unsafe to unpack (see `unpacking`), or its
            metadata is missing or belongs to another distribution.
    """
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename:
        raise MalformedBundle(
            f"{path} does not have a wheel's name; write one such as model-1.0-py3-none-any.whl"
        ) from None
    refuse_unsafe_wheel(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            info = _dist_info(names, path)
            metadata = email.parser.Parser().parsestr(_text(archive, f"{info}/METADATA"))
            entry_points = _text(archive, f"{info}/entry_points.txt") if f"{info}/entry_points.txt" in names else ""
    except DAMAGE as error:
        raise MalformedBundle(f"{path} is not a complete wheel: {error}") from None
    if not _is_of(metadata["Name"], metadata["Version"], name, version):
        raise MalformedBundle(
            f"{path}: its METADATA says that it is {metadata['Name']} {metadata['Version']}; "
            "no installer takes it under this name"
        )
    wanted = metadata["Requires-Python"]
    parser = parse_ini(entry_points, f"{path}: its entry_points.txt")
    wires = parser.items(WIRE_GROUP) if parser.has_section(WIRE_GROUP) else ()
    return WheelFile(
        path=path,
        name=name,
        version=version,
        tags=tags,
        modules=tuple(dict.fromkeys(filter(None, map(_module, names)))),
        python=RequiresPython(text=wanted, key="Requires-Python", file=path) if wanted else None,
        dependencies=tuple(filter(_is_unconditional, metadata.get_all("Requires-Dist") or [])),
        wires=tuple(EntryPoint(name=one, value=text, where=f"[{WIRE_GROUP}] of {path}") for one, text in wires),
    )


def _dist_info(names: Iterable[str], path: Path) -> str:
    directories = sorted({name.partition("/")[0] for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)})
    if len(directories) != 1:
        found = f"{len(directories)}: {', '.join(directories)}" if directories else "none"
        raise MalformedBundle(f"{path} is not a wheel: it needs one .dist-info/METADATA, and has {found}")
    return directories[0]


def _text(archive: zipfile.ZipFile, name: str) -> str:
    info = archive.getinfo(name)
    if info.file_size > LIMITS.small:
        raise MalformedBundle(f"{archive.filename}: {name} has {info.file_size} bytes")
    return archive.read(info).decode()


def _is_of(found_name: str | None, found_version: str | None, name: NormalizedName, version: Version) -> bool:
    try:
        return canonicalize_name(found_name or "") == name and Version(found_version or "") == version
    except InvalidVersion:
        return False


def _is_unconditional(line: str) -> bool:
    """Whether a requirement belongs to no extra. An invalid one is left for the installer to report."""
    try:
        marker = Requirement(line).marker
    except InvalidRequirement:
        return False
    return marker is None or "extra" not in str(marker)


def _module(name: str) -> str | None:
    """Return the module that a file of a wheel is."""
    parts = PurePosixPath(name).parts
    if parts[0].endswith(".data"):
        if parts[1:2] not in {("purelib",), ("platlib",)}:
            return None
        parts = parts[2:]
    return contents.module_of(PurePosixPath(*parts))


def problems_of_record(wheel: WheelFile) -> Iterator[str]:
    """Yield what keeps a wheel's RECORD from verifying that what was installed is what was shipped.

    Installers accept most of such wheels. Source of the rules: "The .dist-info directory" of the format.
    """
    name = wheel.path.name
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            infos = {info.filename: info for info in archive.infolist() if not info.is_dir()}
            info = _dist_info(infos, wheel.path)
            if f"{info}/RECORD" not in infos:
                yield f"{name} has no RECORD; {_REBUILD}"
                return
            rows = {row[0]: row[1] for row in csv.reader(_text(archive, f"{info}/RECORD").splitlines()) if row[1:]}
            to_be_hashed = infos.keys() - {f"{info}/{file}" for file in _UNHASHED}
            if unlisted := sorted(to_be_hashed - rows.keys()):
                yield f"{name} holds files that its RECORD does not list ({_some(unlisted)}); {_REBUILD}"
            if lost := sorted(rows.keys() - infos.keys()):
                yield f"the RECORD of {name} lists files that are not in it ({_some(lost)}); {_REBUILD}"
            listed = sorted(to_be_hashed & rows.keys())
            if bare := [file for file in listed if not _is_strong(rows[file])]:
                yield (
                    f"the RECORD of {name} has no hash of {len(bare)} of its {len(to_be_hashed)} files "
                    f"({_some(bare)}), so nothing can verify what was installed of it; {_REBUILD}"
                )
            hashed = (file for file in listed if _is_strong(rows[file]))
            if changed := [file for file in hashed if _hash(archive, infos[file], rows[file]) != rows[file]]:
                yield f"{name} was changed after it was built: {_some(changed)} is not what its RECORD says; {_REBUILD}"
    except (*DAMAGE, csv.Error) as error:
        yield f"{name} is not a complete wheel: {error}"


_REBUILD = "build it again, such as with `python -m build --wheel` or `pip wheel`"


def _is_strong(digest: str) -> bool:
    return digest.partition("=")[0] in _STRONG


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
