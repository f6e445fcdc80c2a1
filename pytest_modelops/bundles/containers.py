"""The members of zip and tar archives, as one sequence.

Reads only: nothing here writes to a path that an archive names, and no name is judged. Any damage is an error of
`DAMAGE` or `Damaged`.
"""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import enum
import functools
import gzip
import io
import lzma
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

SUFFIXES: Mapping[str, str] = {
    **dict.fromkeys((".zip", ".whl"), "zip"),
    ".tar": "tar",
    **dict.fromkeys((".tar.gz", ".tgz"), "gz"),
    **dict.fromkeys((".tar.bz2", ".tbz2"), "bz2"),
    **dict.fromkeys((".tar.xz", ".txz"), "xz"),
}
"""Suffix of an archive's name, in any case → its container."""
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,  # also of gzip and bz2
    ValueError,  # also names that cannot be decoded
    RuntimeError,  # also an unknown compression method, and endlessly nested headers
    LookupError,
    ArithmeticError,
    MemoryError,
)
"""What the standard library raises for a damaged archive."""
BLOCK = 1 << 20
_LONGEST_HEADER = 1 << 20
"""Bytes. Headers are read into memory as a whole."""
_TAR_BLOCK = 512
_OPEN: Mapping[str, Callable[..., Any]] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}


class Kind(enum.Enum):
    """What a member is; the value is for messages."""

    FILE = "a file"
    DIRECTORY = "a directory"
    LINK = "a link"
    HARD_LINK = "a hard link"
    OTHER = "a device, a pipe or another special file"


_KIND_OF_MODE = {0: Kind.FILE, stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.LINK}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One member of an archive.

    Attributes:
        name: as stored.
        size: of a file, as stored, in bytes.
        executable: whether its owner may execute it.
        target: of a link or a hard link, as stored.
        open: opens the content of a file.
    """

    name: str
    kind: Kind
    size: int = 0
    executable: bool = False
    target: str = ""
    open: Callable[[], IO[bytes]] = io.BytesIO


class Damaged(Exception):
    """The archive is not whole; the text says why."""


@contextlib.contextmanager
def members(path: Path, container: str, spend: Callable[[int], None]) -> Iterator[Iterator[Member]]:
    """Yield the members in the order of the archive; read each one's content before the next member.

    `container` is a value of `SUFFIXES`. `spend` gets each number of bytes that is decompressed before the first
    member, and raises to stop.
    """
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        if container == "zip":
            yield _of_zip(stack.enter_context(zipfile.ZipFile(file)))
            return
        if container in _OPEN:
            plain = stack.enter_context(tempfile.TemporaryFile(prefix="modelops-"))  # any position is cheap to reach
            with _OPEN[container](file) as stream:
                while block := stream.read(BLOCK):
                    spend(len(block))
                    plain.write(block)
            plain.seek(0)
            file = plain
        yield _of_tar(stack.enter_context(tarfile.open(fileobj=cast("IO[bytes]", _Bounded(file)), mode="r:")), file)


def _of_zip(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        if info.flag_bits & 0x1:
            raise Damaged(f"{info.orig_filename!r} is encrypted")
        if info.is_dir() and info.file_size:
            raise Damaged(f"{info.orig_filename!r} is a directory that holds data")
        kind = Kind.DIRECTORY if info.is_dir() else _KIND_OF_MODE.get(stat.S_IFMT(mode), Kind.OTHER)
        target = ""
        if kind is Kind.LINK:
            with archive.open(info) as content:
                target = content.read(_LONGEST_HEADER).decode()
        yield Member(
            name=info.orig_filename,
            kind=kind,
            size=info.file_size,
            executable=bool(mode & stat.S_IXUSR),
            target=target,
            open=functools.partial(archive.open, info),
        )


def _of_tar(archive: tarfile.TarFile, file: IO[bytes]) -> Iterator[Member]:
    for info in archive:
        yield Member(
            name=info.name,
            kind=_kind(info),
            size=info.size,
            executable=bool(info.mode & stat.S_IXUSR),
            target=info.linkname,
            open=functools.partial(cast("Callable[..., IO[bytes]]", archive.extractfile), info),
        )
    # tarfile takes a damaged header for the end.
    file.seek(archive.offset)
    end = file.read(_TAR_BLOCK)
    if len(end) < _TAR_BLOCK or any(end):
        raise Damaged("it is cut off or damaged: it has no end mark")


def _kind(info: tarfile.TarInfo) -> Kind:
    if info.isreg():
        return Kind.FILE
    if info.isdir():
        return Kind.DIRECTORY
    if info.issym():
        return Kind.LINK
    return Kind.HARD_LINK if info.islnk() else Kind.OTHER


class _Bounded:
    """A file that refuses to read more into memory at once than a header may have."""

    def __init__(self, file: IO[bytes]) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise Damaged(f"it has a header of {size} bytes")
        return self._read(size)
