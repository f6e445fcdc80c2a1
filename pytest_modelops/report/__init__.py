"""Reports: results in, text out. Knows results and nothing of how they came about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_modelops.report import html, json, markdown
from pytest_modelops.report.files import write_text
from pytest_modelops.report.model import RunReport


def _write_with(render: Callable[[RunReport], str]) -> Callable[[RunReport, Path], None]:
    return lambda report, path: write_text(render(report), path)


WRITERS: Mapping[str, Callable[[RunReport, Path], None]] = {
    ".html": _write_with(html.render),
    ".json": json.write,
    ".md": _write_with(markdown.render),
}
"""By the ending of a report's path: what writes it. The session writes `.xml`, which is pytest's own JUnit report."""
