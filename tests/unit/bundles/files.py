"""What the tests of bundles write."""

from __future__ import annotations

import functools
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

BUNDLES = Path(__file__).parents[3] / "fixtures" / "bundles"
PROJECT = '[project]\nname = "x"\nversion = "1"\n'
WIRE = "def wire(entrypoint, params, seed):\n    return {}\n"
WIRE_GROUP = '[project.entry-points."modelops.wire"]\n'
CELL = "py3.12-dask2024.10.0"


def write_files(directory: Path, files: Mapping[str, str]) -> Path:
    """Write path → text."""
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def pack_zip(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return stream.getvalue()


def pack_tar(*entries: tuple[str | tarfile.TarInfo, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in entries:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


PACKERS: dict[str, Callable[..., bytes]] = {
    ".zip": pack_zip,
    ".tar": pack_tar,
    **{f".{suffix}": functools.partial(pack_tar, mode="w:gz") for suffix in ("tar.gz", "tgz")},
    **{f".tar.{mode}": functools.partial(pack_tar, mode=f"w:{mode}") for mode in ("bz2", "xz")},
}


def rewrite(path: Path, change: Callable[[dict[str, bytes]], Mapping[str, bytes]]) -> None:
    """Write a zip archive again, with other files."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    path.write_bytes(pack_zip(*change(files).items()))


def without_hashes(files: dict[str, bytes]) -> Mapping[str, bytes]:
    """Return the files of a wheel, with a RECORD that has no hashes."""
    record = next(name for name in files if name.endswith("/RECORD"))
    return {**files, record: "".join(f"{name},,\n" for name in files).encode()}
