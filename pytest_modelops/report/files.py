"""Writing the text of a report: a reader sees the old file or the new one, and never half of one."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_text(text: str, path: Path) -> None:
    """Write a file atomically.

    Creates missing directories. Replaces the file that a symbolic link points to, not the link.

    Raises:
        OSError: the file cannot be written there; the old one is untouched.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the same directory, because a replacement is atomic only within one file system; and not by `tempfile`, whose
    # files no other user may read.
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        # Bytes of a process's output that are not UTF-8 are decoded as surrogates, which cannot be written.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
