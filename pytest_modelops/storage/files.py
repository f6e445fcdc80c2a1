"""Files that several processes share: read whole or not at all, written atomically, and locks on them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import TimedOut

CACHE_TAG = "CACHEDIR.TAG"


def read_json(file: Path) -> Any:
    """Return the file's content, `None` if it is missing or damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(file: Path, content: Any) -> None:
    write_text(file, json.dumps(content, indent=1, sort_keys=True))


def write_text(file: Path, text: str) -> None:
    """Write the file atomically: a reader, also one after a crash, sees all of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def hash_file(file: Path) -> str:
    """Return the SHA-256 of the file's content, hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(file: Path, deadline: Deadline, awaited: str) -> Iterator[None]:
    """Hold a lock between processes; the operating system releases it when its process ends.

    Raises:
        TimedOut: another process held it until the deadline.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(file, timeout=deadline.remaining):
            yield
    except filelock.Timeout:
        raise TimedOut(
            f"another process has been at {awaited} for the {deadline.seconds:g} s that this one could wait; "
            f"it holds {file}"
        ) from None


def mark_as_cache(directory: Path) -> None:
    """Mark the directory, for backup programs and for ourselves, as one whose content can be made again.

    Source: https://bford.info/cachedir/.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tag = directory / CACHE_TAG
    if not tag.exists():
        tag.write_text("Signature: 8a477f597d28d172789f06886806bc55\n# Made by pytest-modelops.\n")


def unused_path(parent: Path, name: str) -> Path:
    """Return `parent/name`, or `parent/name-2`, `parent/name-3`, … if that exists already."""
    path, number = parent / name, 1
    while path.exists():
        number += 1
        path = parent / f"{name}-{number}"
    return path
