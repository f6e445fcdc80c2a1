"""Where reports go, and in which form: named by the ending of a path, by a name, or by a directory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

FORMATS = {".html": "html", ".json": "json", ".md": "markdown"}
"""By the ending of a report's path: the module of this package whose `render(report)` returns its text."""
JUNIT = ".xml"
"""pytest's own report, which the session completes."""
GITHUB = "github"
ENDINGS = (*FORMATS, JUNIT)
IN_DIRECTORY = {**{ending: f"report{ending}" for ending in FORMATS}, JUNIT: "junit.xml"}
"""The reports of a directory, by ending."""
LOGS = "logs"
"""Where a directory has the logs."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A report to write.

    Attributes:
        ending: one of `ENDINGS`; `GITHUB`; empty for a directory with all reports and their logs.
        path: absolute; `None` for GitHub's, which its runner names.
    """

    ending: str
    path: Path | None = None

    @property
    def junit(self) -> Path | None:
        """Where pytest writes its JUnit report for this target, if it does."""
        if self.path is None:
            return None
        return {JUNIT: self.path, "": self.path / IN_DIRECTORY[JUNIT]}.get(self.ending)

    def __str__(self) -> str:
        return "GitHub's step summary and annotations" if self.path is None else str(self.path)


def target(text: str, path: Path) -> Target:
    """Return the target that a text names.

    Args:
        path: what the text is as a path.

    Raises:
        ValueError: it ends like a file that is no report.
    """
    if text == GITHUB:
        return Target(GITHUB)
    is_bare_ending = f".{text}" in ENDINGS
    if path.is_dir() or text.endswith("/") or (not path.suffix and not is_bare_ending):
        return Target("", path)
    if path.suffix not in ENDINGS:
        raise ValueError(
            f"{text!r} does not end in a report's format; valid: {', '.join(ENDINGS)}, a directory, or {GITHUB}"
        )
    return Target(path.suffix, path)
