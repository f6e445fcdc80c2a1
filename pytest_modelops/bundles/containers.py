"""What zip and tar archives hold, member by member, as one sequence. Says what is there; judges no name.

Nothing here writes to a path that an archive names. Damage of any kind is an error of `DAMAGE`.
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
from typing import IO

SUFFIXES: Mapping[str, str] = {
    ".zip": "zip",
    ".whl": "zip",
    ".tar": "tar",
    ".tar.gz": "gz",
    ".tgz": "gz",
    ".tar.bz2": "bz2",
    ".tbz2": "bz2",
    ".tar.xz": "xz",
    ".txz": "xz",
}
"""How the names of archives end, in any case, and which container that is."""
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,  # also of gzip and bz2
    ValueError,  # also names that cannot be decoded
    RuntimeError,  # also a method of compression that is not known, and headers within headers without end
    LookupError,
    ArithmeticError,
    MemoryError,
)
"""What the standard library raises at something that is no whole archive."""
BLOCK = 1 << 20
_LONGEST_HEADER = 1 << 20
"""A header is read into memory as a whole; a name of this length is none."""
_TAR_BLOCK = 512


class Kind(enum.Enum):
    """What a member is, in words."""

    FILE = "a file"
    DIRECTORY = "a directory"
    LINK = "a link"
    HARD_LINK = "a hard link"
    OTHER = "a device, a pipe or something else that is no file"


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
    """It is no whole archive, in words."""


Spend = Callable[[int], None]
"""Is reported of every so many bytes that come out of an archive; raises when they are too many."""


@contextlib.contextmanager
def members(path: Path, container: str, spend: Spend) -> Iterator[Iterator[Member]]:
    """The members, in the order of the archive, each to be read before the next.

    Args:
        path: the archive.
        container: see `SUFFIXES`.
        spend: for what is decompressed before there are members.
    """
    with path.open("rb") as file:
        if container == "zip":
            with zipfile.ZipFile(file) as archive:
                yield _of_zip(archive)
            return
        with contextlib.ExitStack() as stack:
            plain = stack.enter_context(_decompressed(file, container, spend))
            tar = stack.enter_context(tarfile.open(fileobj=_Careful(plain), mode="r:"))
            yield _of_tar(tar, plain)


def _of_zip(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        if info.flag_bits & 0x1:
            raise Damaged(f"{info.orig_filename!r} is encrypted")
        kind = _KINDS.get(stat.S_IFMT(mode), Kind.OTHER)
        if info.is_dir():
            if info.file_size:
                raise Damaged(f"{info.orig_filename!r} is a directory that holds data")
            kind = Kind.DIRECTORY
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


_KINDS = {0: Kind.FILE, stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.LINK}


def _of_tar(archive: tarfile.TarFile, file: IO[bytes]) -> Iterator[Member]:
    for info in archive:
        yield Member(
            name=info.name,
            kind=_kind(info),
            size=info.size,
            executable=bool(info.mode & stat.S_IXUSR),
            target=info.linkname,
            open=functools.partial(_content, archive, info),
        )
    # tarfile takes a damaged header for the end.
    file.seek(archive.offset)
    end = file.read(_TAR_BLOCK)
    if len(end) < _TAR_BLOCK or any(end):
        raise Damaged("it is cut off or damaged, since its end has no mark")


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    return archive.extractfile(info) or io.BytesIO()


def _kind(info: tarfile.TarInfo) -> Kind:
    if info.isreg():
        return Kind.FILE
    if info.isdir():
        return Kind.DIRECTORY
    if info.issym():
        return Kind.LINK
    return Kind.HARD_LINK if info.islnk() else Kind.OTHER


@contextlib.contextmanager
def _decompressed(file: IO[bytes], container: str, spend: Spend) -> Iterator[IO[bytes]]:
    """A tar as a file that can be read at any place."""
    if container == "tar":
        yield file
        return
    opened = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}[container]
    with tempfile.TemporaryFile(prefix="modelops-") as plain:
        with opened(file, "rb") as stream:  # type: ignore[operator]
            while block := stream.read(BLOCK):
                spend(len(block))
                plain.write(block)
        plain.seek(0)
        yield plain


class _Careful(io.RawIOBase):
    """A file of which no more is read into memory at once than a header may be long."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file

    def seek(self, offset: int, whence: int = 0) -> int:
        """As that of a file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As that of a file."""
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes."""
        if not 0 <= size <= _LONGEST_HEADER:
            raise Damaged(f"it has a header of {size} bytes")
        return self._file.read(size)
