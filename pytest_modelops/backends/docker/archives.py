"""Tar archives: the only form in which an engine takes files into a container or a volume."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pytest_modelops.backends.docker.engine import Engine, translated


class Archive:
    """Adds entries to a tar file, owned by root and readable by everybody unless an argument says otherwise."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def directory(self, name: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        info = self._info(name, tarfile.DIRTYPE, mode)
        info.uid, info.gid = uid, gid
        self._tar.addfile(info)

    def link(self, name: str, target: str) -> None:
        info = self._info(name, tarfile.SYMTYPE, 0o777)
        info.linkname = target
        self._tar.addfile(info)

    def file(self, name: str, content: bytes, *, mode: int = 0o644) -> None:
        info = self._info(name, tarfile.REGTYPE, mode)
        info.size = len(content)
        self._tar.addfile(info, io.BytesIO(content))

    def tree(self, source: Path, name: str, *, without: str = "") -> None:
        """Add a file or directory of the host's, but no file or directory with the name `without`."""

        def readable(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
            if without and without in Path(info.name).parts:
                return None
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mode = 0o755 if info.isdir() or info.mode & 0o111 else 0o644
            return info

        self._tar.add(source, name, filter=readable)

    @staticmethod
    def _info(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.mtime = kind, mode, int(time.time())
        return info


@contextlib.contextmanager
def copied_into(
    engine: Engine, container: str, directory: str, doing: str, *, follow_links: bool = False
) -> Iterator[Archive]:
    """Write an archive within the context; at its end it is unpacked into a container's directory.

    Args:
        doing: for the message if the engine refuses, as `translated` takes it.
        follow_links: add what a symbolic link of a tree points to, instead of the link.
    """
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w", dereference=follow_links) as tar:
            yield Archive(tar)
        file.seek(0)
        with translated(engine, doing):
            engine.api.put_archive(container, directory, file)
