"""What GitHub Actions shows of a run: a step summary, and an annotation for each broken cell.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytest_modelops.report import markdown
from pytest_modelops.report.looks import cause_of, mark_of
from pytest_modelops.report.model import RunReport, Status
from pytest_modelops.report.verdict import RED

SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable with the path of the step's summary."""
LARGEST = 1024 * 1024
"""Bytes of a step's summaries together; GitHub shows nothing of a larger one."""


def append_summary(report: RunReport, path: Path) -> None:
    """Add the report in Markdown to the step's summary, shortened to what GitHub shows.

    Raises:
        OSError: the file cannot be written.
    """
    before = path.stat().st_size if path.exists() else 0
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(_shortened(markdown.render(report), LARGEST - before - 1))


def _shortened(text: str, room: int) -> str:
    encoded = text.encode(errors="backslashreplace")
    if len(encoded) <= room:
        return text
    note = "\n\nThe rest is in the other reports: GitHub shows no larger summary.\n"
    kept = encoded[: max(0, room - len(note.encode()))].decode(errors="ignore")
    return kept.rpartition("\n\n")[0] + note


def commands(report: RunReport, start: Path) -> Iterator[str]:
    """Yield a workflow command for each broken cell, at the line of the configuration that asks for the cell.

    Args:
        start: the directory of the repository, to which the paths of annotations are relative.
    """
    for cell in report.cells:
        cause = cause_of(cell)
        if cause is None or cell.status not in {Status.MISSING, *RED}:
            continue
        properties = {"title": f"{cell.id}: {cause.label} {mark_of(cell).text}"}
        if report.configuration and cell.line is not None:
            path = Path(report.configuration).expanduser()
            file = path.relative_to(start) if path.is_relative_to(start) else path
            properties = {"file": file.as_posix(), "line": str(cell.line), **properties}
        joined = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
        probable = f"Probable cause: {cell.probable_cause.text}" if cell.probable_cause else ""
        message = "\n\n".join(filter(None, [probable, cause.message.strip(), cause.reproduce]))
        yield f"::error {joined}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
